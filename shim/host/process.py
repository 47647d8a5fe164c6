"""Processes: who they are, ending them, and what becomes of children.

A pid alone may have been given to another process: a ProcessIdentity carries
the start time beside it and is checked through a pidfd before it is killed.
`Reaper` owns waiting for every child of this process, on the event loop.
"""

import asyncio
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STAT_START_TIME: Final = 19  # field 22 of proc(5) /proc/PID/stat, from the state on


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    pid: int
    start_time: int

    def __str__(self) -> str:
        return f"{self.pid} {self.start_time}"


def read_identity(pid: int) -> ProcessIdentity | None:
    """None when there is no such process, or it is dead and waits to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return ProcessIdentity(pid, int(fields[STAT_START_TIME]))


def write_identity(path: Path, identity: ProcessIdentity) -> None:
    path.write_text(f"{identity}\n")


def load_identity(path: Path) -> ProcessIdentity | None:
    """None when the file is not there or was never finished."""
    try:
        pid, start_time = path.read_text().split()
        return ProcessIdentity(int(pid), int(start_time))
    except (OSError, ValueError):
        return None


def open_process(identity: ProcessIdentity) -> int | None:
    """A pidfd of exactly this process; None when it has ended."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except (ProcessLookupError, ValueError):
        return None
    if read_identity(identity.pid) != identity:
        os.close(pidfd)
        return None
    return pidfd


def wait_pidfd(pidfd: int, timeout_s: float) -> bool:
    """Whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def end_process(identity: ProcessIdentity, patience_s: float, kill_wait_s: float = 2.0) -> bool:
    """Waits `patience_s` for a process to end by itself, then kills it.

    False when it is still there `kill_wait_s` after SIGKILL.
    """
    pidfd = open_process(identity)
    if pidfd is None:
        return True
    try:
        if wait_pidfd(pidfd, patience_s):
            return True
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return wait_pidfd(pidfd, kill_wait_s)
    finally:
        os.close(pidfd)


class Reaper:
    """Waits for all children, adopted ones too; owns SIGCHLD of the event loop.

    `watch` a child before anything is awaited after its start.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, asyncio.Future[int]] = {}
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def watch(self, pid: int) -> "asyncio.Future[int]":
        """Resolves to the exit code, or minus the signal that ended the child."""
        ended: asyncio.Future[int] = self._loop.create_future()
        self._watched[pid] = ended
        # It may have ended, and its SIGCHLD gone by, before there was a handler.
        self._loop.call_soon(self._reap)
        return ended

    def close(self) -> None:
        self._loop.remove_signal_handler(signal.SIGCHLD)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._watched.pop(pid, None)
            if ended is not None and not ended.done():
                ended.set_result(os.waitstatus_to_exitcode(status))
