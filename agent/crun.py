"""Runs crun and turns its error messages into exceptions.

Owns nothing but crun's state directory; one crun process per call, reaped by the
Reaper.  crun writes errors both to its log and to its stderr, and stderr may be a
container's: so the log is read, and the pipe is pumped only after success.
"""

import os
import re
import signal
from collections.abc import Sequence
from itertools import count
from typing import Final

from agent.errors import AgentError, InvalidArgument, NotFound, RuntimeFailure
from agent.reaper import Reaper
from agent.stdio import ChildFds

CRUN: Final = "/usr/bin/crun"
ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
NO_STDIO: Final = ChildFds(-1, -1, -1)
MAX_LOG_BYTES: Final = 64 << 10
IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""If these stayed ignored, a container's programs would inherit that."""

TIMESTAMP: Final = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z?:? ")
MISSING: Final = re.compile(r"executable file `(?P<program>.*)` not found")
NOT_PERMITTED: Final = re.compile(
    r"^open executable"  # crun 1.8
    r"|^the path `.*` (?:exists but it is not executable|is not a regular file)"  # crun 1.21
)


def explain_failure(log: str, status: int, program: str) -> AgentError:
    """crun's last message as an error; a bad program is reported with runc's
    distinctions."""
    lines = [line for line in log.splitlines() if line.strip()]
    text = TIMESTAMP.sub("", lines[-1]) if lines else f"it ended with status {status} in silence"
    missing = MISSING.search(text)
    if missing and "/" in missing["program"]:
        name = missing["program"]
        return NotFound(f'exec: "{name}": stat {name}: no such file or directory')
    if missing:
        return NotFound(f'exec: "{missing["program"]}": executable file not found in $PATH')
    if NOT_PERMITTED.search(text):
        # crun reports EPERM for a directory and EACCES for a plain file; runc reports both
        # alike.
        return InvalidArgument(f'exec: "{program}": permission denied')
    return RuntimeFailure(f"crun: {text}")


class Crun:
    """Any number of calls at once; close() when all have returned."""

    def __init__(self, reaper: Reaper, directory: str) -> None:
        self._reaper = reaper
        self._directory = directory
        self._state = f"{directory}/crun"
        self._numbers = count()
        os.makedirs(self._state, mode=0o700, exist_ok=True)
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self.version = ""
        """Known once read_version() has returned."""

    def close(self) -> None:
        os.close(self._null)

    def temporary_path(self, suffix: str) -> str:
        """A short path, as a socket's path has at most 107 bytes."""
        return f"{self._directory}/{next(self._numbers)}.{suffix}"

    async def run(
        self, arguments: Sequence[str], *, program: str = "", child: ChildFds = NO_STDIO
    ) -> None:
        """Returns when crun has succeeded; what it started continues as the agent's child."""
        log = self.temporary_path("log")
        command = [
            CRUN,
            f"--root={self._state}",
            "--cgroup-manager=cgroupfs",
            f"--log={log}",
            *arguments,
        ]
        try:
            pid = self._spawn(command, child)
            end = await self._reaper.claim(pid)
            if end.status != 0:
                raise explain_failure(read_log(log), end.status, program)
        finally:
            remove_file(log)

    async def read_version(self) -> None:
        """The first run of crun: it also brings the program into the guest's page cache."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid = self._spawn([CRUN, "--version"], ChildFds(-1, writer, -1))
            await self._reaper.claim(pid)
            first, *_ = os.read(reader, MAX_LOG_BYTES).decode(errors="replace").splitlines()
            self.version = first.split()[-1]
        finally:
            os.close(reader)
            os.close(writer)

    def _spawn(self, command: list[str], child: ChildFds) -> int:
        """posix_spawn shares the memory until the exec: no copy of the page tables."""
        moves = [
            (os.POSIX_SPAWN_DUP2, self._null if fd < 0 else fd, target)
            for target, fd in enumerate(child)
        ]
        return os.posix_spawn(
            command[0],
            command,
            ENVIRONMENT,
            file_actions=moves,
            setsigmask=(),
            setsigdef=IGNORED_BY_PYTHON,
        )


def read_log(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_LOG_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def read_pid(path: str) -> int:
    with open(path, "rb") as file:
        return int(file.read(16))


def remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
