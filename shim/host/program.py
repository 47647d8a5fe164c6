"""Runs a program of the host as the caller of this process would, and waits for its end.

The program runs in the mount namespace that the shim had at first, outside the sandbox's
cgroup, in a session of its own, with no descriptor but its three standard streams.  Its
input is a file in memory; of what it writes to stdout and stderr the end is kept.

On the event loop; the Reaper reaps the child.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from shim.host import syscalls
from shim.host.cgroup import HostCgroup
from shim.host.fds import opened
from shim.host.mount_namespace import run_inside
from shim.host.reaper import Reaper

MAX_OUTPUT_BYTES: Final = 4096
READ_BYTES: Final = 1 << 16
FIRST_OTHER_FD: Final = 3
IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""If these stayed ignored, the program would inherit that."""


@dataclass(frozen=True, slots=True)
class Program:
    path: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    directory: str
    stdin: bytes
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    code: int
    """The exit code, or minus the signal that ended it."""
    output: str
    """The end of what it wrote to stdout and stderr."""
    timed_out: bool = False
    """It was killed with its process group."""


RunProgram = Callable[[Program], Awaitable[ProgramEnd]]
"""OSError if it cannot be started."""


class HostPrograms:
    """`run` any number at once; stateless between calls."""

    def __init__(self, reaper: Reaper, mounts: int, cgroup: HostCgroup | None) -> None:
        """`mounts`: the mount namespace to run in, a descriptor that stays the caller's."""
        self._reaper = reaper
        self._mounts = mounts
        self._cgroup = cgroup

    async def run(self, program: Program) -> ProgramEnd:
        """Kills the program also when this call is cancelled."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with opened(reader):
            with opened(writer):
                os.set_blocking(writer, True)
                pid = self._spawn(program, writer)
            return await self._see_out(program, pid, reader)

    async def _see_out(self, program: Program, pid: int, reader: int) -> ProgramEnd:
        ended = self._reaper.watch(pid)
        self._leave_cgroup(pid)
        output = Output(reader)
        loop = asyncio.get_running_loop()
        loop.add_reader(reader, lambda: output.take() or loop.remove_reader(reader))
        try:
            done, _ = await asyncio.wait({ended}, timeout=program.timeout_s)
        finally:
            loop.remove_reader(reader)
            if not ended.done():
                # The child leads the group and is not reaped yet, so the number is its own.
                os.killpg(pid, signal.SIGKILL)
        code = await ended
        output.take()
        return ProgramEnd(code, output.text, timed_out=not done)

    def _leave_cgroup(self, pid: int) -> None:
        if self._cgroup is not None:
            with suppress(ProcessLookupError):
                self._cgroup.send_back(pid)

    def _spawn(self, program: Program, output: int) -> int:
        """The caller waits: nothing may run on the loop before the child is watched."""

        def run() -> int:
            syscalls.give_up_descriptors(FIRST_OTHER_FD)
            os.chdir(program.directory)
            return spawn_program(program, output)

        return run_inside(self._mounts, run)


def spawn_program(program: Program, output: int) -> int:
    with opened(os.memfd_create("stdin")) as stdin:
        os.pwrite(stdin, program.stdin, 0)
        actions = [
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        return os.posix_spawn(
            program.path,
            program.args,
            program.env,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=IGNORED_BY_PYTHON,
        )


class Output:
    """The end of what comes from a pipe, which stays the caller's."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._kept = b""

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()

    def take(self) -> bool:
        """What is there now; False at the end of the pipe."""
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return True
        self._kept = (self._kept + data)[-MAX_OUTPUT_BYTES:]
        return bool(data)
