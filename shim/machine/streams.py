"""Descriptors of the host that a vmm joins with streams of processes in its guest."""

import asyncio
import errno
import logging
import secrets
from dataclasses import dataclass
from typing import Any

from proto.contract import STREAM_TOKEN_BYTES
from proto.control import Direction, Operation, StreamArgs
from shim.machine.control import ControlSocket

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stream:
    """A descriptor of the host joined with a stream of a process in the guest."""

    closed: "asyncio.Future[int]"
    """Resolves to 0 or an errno, once all bytes have been moved."""


class GuestStreams:
    """The streams of one machine.  Lifecycle: `open`; `close` at the vmm's event; `close_all`."""

    def __init__(self, control: ControlSocket) -> None:
        self._control = control
        self._streams: dict[int, Stream] = {}
        self._last = 0

    def __len__(self) -> int:
        """Those that are open."""
        return len(self._streams)

    def open(self, fd: int, direction: Direction, token: str) -> Stream:
        """Joins `fd`, which stays the caller's, with a stream of the guest.

        Does not wait: a stream that cannot be opened is closed with an error.
        """
        self._last += 1
        number = self._last
        stream = Stream(asyncio.get_running_loop().create_future())
        self._streams[number] = stream
        arguments = StreamArgs(number, token, direction)._asdict()
        opened = self._control.send(Operation.OPEN_STREAM, arguments, [fd])
        opened.add_done_callback(lambda answer: self._handle_opened(number, answer))
        return stream

    def close(self, number: int, error: int) -> bool:
        """Whether there is such a stream."""
        stream = self._streams.pop(number, None)
        if stream is not None and not stream.closed.done():
            stream.closed.set_result(error)
        return stream is not None

    def close_all(self, error: int) -> None:
        for number in list(self._streams):
            self.close(number, error)

    def _handle_opened(self, number: int, answer: "asyncio.Future[Any]") -> None:
        if not answer.cancelled() and (error := answer.exception()) is not None:
            log.error("stream %d of the guest: %s", number, error)
            self.close(number, errno.EIO)


def make_token() -> str:
    """Names a stream to the vmm and to the agent; any process that knows it may use it."""
    return secrets.token_hex(STREAM_TOKEN_BYTES)
