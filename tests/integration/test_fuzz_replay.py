"""What fuzzers have found, once more, on what only root can make.

`make check` replays the same inputs over files in memory and sockets.
"""

import os
import subprocess
from pathlib import Path

import pytest

FUZZERS = Path(__file__).parents[1] / "fuzz"
DEVICES = {"ext4": "/dev/loop-control", "tap": "/dev/net/tun"}


@pytest.mark.parametrize(
    ("harness", "variable", "value"),
    [
        ("fuse", "FUZZ_BELOW", "ext4"),
        ("fuse", "FUZZ_BELOW", "overlay"),
        ("net", "FUZZ_WIRE", "tap"),
    ],
)
def test_no_input_of_the_corpus_does_harm(harness: str, variable: str, value: str) -> None:
    needed = DEVICES.get(value)
    if needed and not os.path.exists(needed):
        pytest.skip(f"no {needed}")
    done = subprocess.run(
        ["make", "-C", FUZZERS, f"replay-{harness}"],
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
