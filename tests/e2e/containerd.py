"""The containerd that the tests run under: its log, its end and its start again."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.ctr import TIMEOUT_S


class Containerd:
    """The one that runs, as a process that can be killed and started again."""

    def __init__(self) -> None:
        self.pid = int(subprocess.check_output(["pidof", "-s", "containerd"]))
        process = Path(f"/proc/{self.pid}")
        self.command = process.joinpath("cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        lines = process.joinpath("environ").read_bytes().rstrip(b"\0").split(b"\0")
        self.environment = dict(line.split(b"=", 1) for line in lines)
        self.log = os.readlink(process / "fd/2")

    def read_log(self, start: int = 0) -> str:
        """From byte `start` on; shims' lines are in it."""
        return Path(self.log).read_bytes()[start:].decode(errors="replace")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        wait_for(lambda: not is_running(self.pid), "containerd has died")

    def start(self) -> None:
        """Detached from this process: the next test must find it running."""
        with open(self.log, "ab") as log:
            subprocess.run(
                [b"setsid", b"-f", *self.command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        ping = ["ctr", "--connect-timeout", "2s", "version"]
        wait_for(
            lambda: subprocess.run(ping, capture_output=True, check=False).returncode == 0,
            "containerd answers",
        )


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)
