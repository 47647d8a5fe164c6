"""Moves bytes from one descriptor to another in the event loop.

A pump owns neither descriptor; its creator closes them when `finished` is called.
At most one pump reads and one writes a given descriptor.  With `splice` the bytes
stay in the kernel (one side has to be a pipe); a pty takes plain copies.
"""

import array
import asyncio
import fcntl
import os
import termios
from collections.abc import Callable
from typing import Final

SPLICE_BYTES: Final = 1 << 20
COPY_BYTES: Final = 64 << 10
SPLICE_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pump:
    """start(), then `finished` is called once: at the source's end or when the sink has
    failed.

    stop() ends it early and silently.  Both descriptors must not block.
    """

    def __init__(
        self, source: int, sink: int, finished: Callable[[], None], *, splice: bool = False
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._sink = sink
        self._finished = finished
        self._move = self._splice if splice else self._copy
        self._pending = b""
        self._to_drain: int | None = None
        self._drained: asyncio.Future[None] = self._loop.create_future()
        self._waiting_for_sink = False
        self._active = False

    def start(self) -> None:
        self._active = True
        self._loop.add_reader(self._source, self._step)

    def stop(self) -> None:
        if not self._active:
            return
        self._active = False
        if self._waiting_for_sink:
            self._loop.remove_writer(self._sink)
        else:
            self._loop.remove_reader(self._source)
        if not self._drained.done():
            self._drained.set_result(None)

    def mark_drained(self) -> None:
        """wait_drained() then waits only for what is in the source now."""
        if not self._active:
            return
        waiting = array.array("i", [0])
        fcntl.ioctl(self._source, termios.FIONREAD, waiting)
        self._to_drain = waiting[0] + len(self._pending)
        self._count(0)

    async def wait_drained(self) -> None:
        """Returns when the source has ended or, once marked, all before the mark was
        moved."""
        await asyncio.shield(self._drained)

    def _step(self) -> None:
        try:
            moved = self._move()
        except BlockingIOError:
            return
        except OSError:  # EIO: the last user of a pty has closed it; EPIPE: the reader has closed
            self._finish()
            return
        if moved == 0:
            self._finish()
        else:
            self._count(moved)

    def _splice(self) -> int:
        try:
            moved = os.splice(self._source, self._sink, SPLICE_BYTES, flags=SPLICE_FLAGS)
        except BlockingIOError:
            # The error does not tell which side was not ready: wait for the other
            # one.
            self._wait_for_sink(not self._waiting_for_sink)
            raise
        self._wait_for_sink(False)
        return moved

    def _copy(self) -> int:
        if not self._pending:
            self._pending = os.read(self._source, COPY_BYTES)
            if not self._pending:
                return 0
        try:
            moved = os.write(self._sink, self._pending)
        except BlockingIOError:
            self._wait_for_sink(True)
            raise
        self._pending = self._pending[moved:]
        self._wait_for_sink(bool(self._pending))
        return moved

    def _wait_for_sink(self, wanted: bool) -> None:
        if wanted == self._waiting_for_sink:
            return
        self._waiting_for_sink = wanted
        if wanted:
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._step)
        else:
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._step)

    def _count(self, moved: int) -> None:
        if self._to_drain is None:
            return
        self._to_drain -= moved
        if self._to_drain <= 0 and not self._drained.done():
            self._drained.set_result(None)

    def _finish(self) -> None:
        self.stop()
        self._finished()
