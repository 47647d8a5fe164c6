"""Runs the programs that prepare a host, and shows what they said only when it matters.

Owns nothing.  Stdout belongs to the command under test, so nothing of theirs goes
there in any case.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.testhost.log import MARK, say

SHOWN_LINES = 60


def run_quietly(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """CalledProcessError after its last lines were shown; lines with our mark are always."""
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    lines = done.stdout.decode(errors="replace").splitlines()
    shown = [line for line in lines if done.returncode != 0 or line.startswith(MARK)]
    for line in shown[-SHOWN_LINES:]:
        say(line.removeprefix(MARK) if line.startswith(MARK) else f"| {line}")
    done.check_returncode()
