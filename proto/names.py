"""Frames of DNS questions from a guest to its shim, and of the answers to them.

A name server of the container's network namespace listens on a loopback address there,
which a guest has of its own: the agent listens on that address in the guest, and each
question travels with its number to the shim, which asks the name server.  Two streams, one
in each direction.  A frame is number (u32), transport (u8), length (u16), the DNS message
(RFC 1035 §4), in network byte order.  Pure.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("!IBH")
MAX_MESSAGE_BYTES: Final = (1 << 16) - 1
LENGTH: Final = struct.Struct("!H")
"""Before each message over TCP (RFC 1035 §4.2.2)."""
DNS_PORT: Final = 53


class Transport(IntEnum):
    UDP = 0
    TCP = 1


class Frame(NamedTuple):
    number: int
    """An answer has its question's."""
    transport: Transport
    message: bytes

    def encode(self) -> bytes:
        return HEADER.pack(self.number, self.transport, len(self.message)) + self.message


class FrameDecoder:
    """Holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """ValueError for a transport that is none; then the stream is of no use any more."""
        self._data += data
        while len(self._data) >= HEADER.size:
            number, transport, length = HEADER.unpack_from(self._data)
            end = HEADER.size + length
            kind = Transport(transport)
            if len(self._data) < end:
                return
            message = bytes(self._data[HEADER.size : end])
            del self._data[:end]
            yield Frame(number, kind, message)
