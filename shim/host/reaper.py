"""Waits for every child of this process, adopted ones too, on the event loop.

Owns SIGCHLD.  One Reaper in a process; nothing else may wait for children.
"""

import asyncio
import os
import signal


class Reaper:
    """`watch` a child before anything is awaited after its start; `close` at the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, asyncio.Future[int]] = {}
        loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def watch(self, pid: int) -> "asyncio.Future[int]":
        """Resolves to the exit code, or minus the signal that ended the child."""
        ended: asyncio.Future[int] = self._loop.create_future()
        self._watched[pid] = ended
        # It may have ended, and SIGCHLD come, before there was a handler.
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
