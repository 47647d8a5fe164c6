"""The only caller of waitid() in the agent: for its own children and for orphans.

Runs in the event loop, on SIGCHLD.  Code that starts a child claims its pid in the
same step of the loop, so its exit cannot be reaped first.  A container's process is
started by crun and becomes ours when crun ends; its pid is read afterwards, so
while an `adoption` is open the exits of unknown pids are kept.
"""

import asyncio
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

UNKNOWN_STATUS = 255


class Exit(NamedTuple):
    """How a process ended: its code, or 128 + the signal."""

    status: int
    ended_at_ns: int


def shell_status(code: int, value: int) -> int:
    """Of siginfo's si_code and si_status."""
    return value if code == os.CLD_EXITED else 128 + value


class Reaper:
    """open() in the running loop; close() restores SIGCHLD."""

    def __init__(self) -> None:
        self._claims: dict[int, asyncio.Future[Exit]] = {}
        self._orphans: dict[int, tuple[int, Exit]] = {}
        self._adoptions: set[int] = set()
        self._clock = 0

    def open(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def close(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def reap(self) -> None:
        """One SIGCHLD may stand for several exits."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None:
                return
            status = shell_status(ended.si_code, ended.si_status)
            self.record(ended.si_pid, Exit(status, time.time_ns()))

    def record(self, pid: int, end: Exit) -> None:
        claim = self._claims.pop(pid, None)
        if claim is not None:
            if not claim.done():
                claim.set_result(end)
        elif self._adoptions:
            self._clock += 1
            self._orphans[pid] = (self._clock, end)

    def claim(self, pid: int) -> "asyncio.Future[Exit]":
        """The exit of `pid`, which is a child or will be one before it ends."""
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        orphan = self._orphans.pop(pid, None)
        if orphan is None:
            self._claims[pid] = future
        else:
            future.set_result(orphan[1])
        return future

    @contextmanager
    def adoption(self) -> Generator[None, None, None]:
        """Keeps the exits of unknown pids until the block has claimed its own.

        An orphan older than every open block belongs to none of them: its pid
        may have been given to another process since.
        """
        self._clock += 1
        opened = self._clock
        self._adoptions.add(opened)
        try:
            yield
        finally:
            self._adoptions.remove(opened)
            oldest = min(self._adoptions, default=self._clock + 1)
            for pid in [pid for pid, (at, _) in self._orphans.items() if at < oldest]:
                del self._orphans[pid]
