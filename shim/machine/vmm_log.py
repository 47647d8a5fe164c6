"""What a vmm writes to its stderr, passed on to the log line by line.

The vmm may have been taken over: it gets a pipe of its own, not containerd's log,
which it could fill and read.  What it writes before there is an event loop waits in
the pipe; while the pipe is full, lines are lost, and the vmm never waits.
"""

import asyncio
import logging
import os
from typing import Final

from shim.text import MAX_TEXT, clean_text

BURST_LINES: Final = 50
LINES_A_SECOND: Final = 1.0
READ_BYTES: Final = 64 << 10
PAUSE_S: Final = 0.1
"""Between two reads, so that a flood of lines costs little."""
LAST_READS: Final = 16
"""A pipe's greatest size, pipe-max-size in proc(5), in READ_BYTES."""
log = logging.getLogger(__name__)


class LineBudget:
    """Pure.  BURST_LINES at once, LINES_A_SECOND in the long run."""

    def __init__(self, now_s: float) -> None:
        self._lines = float(BURST_LINES)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        grown = self._lines + (now_s - self._at_s) * LINES_A_SECOND
        self._lines, self._at_s = min(grown, BURST_LINES), now_s
        if self._lines < 1:
            return False
        self._lines -= 1
        return True


def open_log_pipe() -> tuple[int, int]:
    """The end for a VmmLog, and the one that a vmm is started with.  The caller owns both."""
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


class VmmLog:
    """On the event loop, until `close`, once the vmm has ended.  Owns the descriptor."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._budget = LineBudget(self._loop.time())
        self._rest = b""
        self._dropped = 0
        self._listen()

    def close(self) -> None:
        """Passes on what is still in the pipe."""
        self._loop.remove_reader(self._reader)
        if self._resuming is not None:
            self._resuming.cancel()
        for _ in range(LAST_READS):
            if not self._read():
                break
        os.close(self._reader)
        self._pass_on(self._rest)
        self._report_dropped()

    def _listen(self) -> None:
        self._loop.add_reader(self._reader, self._receive)

    def _receive(self) -> None:
        self._loop.remove_reader(self._reader)
        if self._read():
            self._resuming = self._loop.call_later(PAUSE_S, self._listen)

    def _read(self) -> bool:
        """False at EOF: no process has the other end any more."""
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return True
        *lines, rest = (self._rest + data).split(b"\n")
        # Cuts off nothing that would be shown: a character has at most four bytes.
        self._rest = rest[: 4 * (MAX_TEXT + 1)]
        for line in lines:
            self._pass_on(line)
        return bool(data)

    def _pass_on(self, line: bytes) -> None:
        if not line:
            return
        if not self._budget.take(self._loop.time()):
            self._dropped += 1
            return
        self._report_dropped()
        log.warning("%s", clean_text(line.decode(errors="replace")))

    def _report_dropped(self) -> None:
        if self._dropped:
            log.warning(
                "%d lines of the vmm's output were dropped: more than one a second", self._dropped
            )
            self._dropped = 0
