"""The messages between the outer side and the runner inside the test host.

Sans-I/O and shared by both sides: bytes in, frames out.  A frame is one byte of
kind, four bytes of length (big endian) and the payload.  The channel is a
virtio-serial port, a plain byte stream without an end of its own.
"""

import enum
import struct
from collections.abc import Iterator

HEADER = struct.Struct(">BI")
MAX_PAYLOAD = 1 << 20


class Kind(enum.IntEnum):
    # outer side → host
    JOB = 1  # JSON, once, first
    STDIN = 2  # empty payload: end of file
    RESIZE = 3  # JSON [rows, columns]
    CANCEL = 4  # end the command; its exit is still reported
    # host → outer side
    ALIVE = 16  # every few seconds, whatever the command does
    STARTED = 17  # the command runs
    STDOUT = 18
    STDERR = 19
    NOTICE = 20  # text from the runner itself
    FILE = 21  # a piece of the tar of what was asked for
    EXIT = 22  # JSON {"status": int}, last


class FrameError(Exception):
    """The peer does not speak this protocol.  Carries the offending header."""


def encode(kind: Kind, payload: bytes = b"") -> bytes:
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"payload of {len(payload)} bytes, limit {MAX_PAYLOAD}")
    return HEADER.pack(kind, len(payload)) + payload


class Decoder:
    """Feed it what arrived, iterate over what is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, bytes]]:
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            number, length = HEADER.unpack_from(self._buffer)
            if length > MAX_PAYLOAD or number not in Kind.__members__.values():
                raise FrameError(f"frame of kind {number}, length {length}")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield Kind(number), payload
