"""ttrpc frames: the ten-byte header and its data.

Pure: bytes in, frames out.  Knows nothing of requests, connections or sockets.

ttrpc PROTOCOL.md: length u32, stream id u32, type u8, flags u8, big endian,
then `length` bytes.  A frame longer than MAX_DATA_BYTES is reported without
its data, which is discarded as it arrives and never kept in memory.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEADER: Final = struct.Struct(">IIBB")
MAX_DATA_BYTES: Final = 4 << 20


class FrameType(IntEnum):
    REQUEST = 1
    RESPONSE = 2
    DATA = 3


@dataclass(frozen=True, slots=True)
class Frame:
    stream: int
    type: int
    flags: int
    data: bytes


@dataclass(frozen=True, slots=True)
class OversizedFrame:
    """A frame whose data was refused unread."""

    stream: int
    type: int
    length: int


def encode_frame(stream: int, frame_type: FrameType, data: bytes, flags: int = 0) -> bytes:
    return HEADER.pack(len(data), stream, frame_type, flags) + data


class FrameDecoder:
    """Splits a byte stream into frames, in whatever pieces it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._to_discard = 0

    def feed(self, received: bytes) -> Iterator[Frame | OversizedFrame]:
        self._buffer += received
        while True:
            self._discard()
            if self._to_discard or len(self._buffer) < HEADER.size:
                return
            length, stream, frame_type, flags = HEADER.unpack_from(self._buffer)
            if length > MAX_DATA_BYTES:
                del self._buffer[: HEADER.size]
                self._to_discard = length
                yield OversizedFrame(stream, frame_type, length)
                continue
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            data = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield Frame(stream, frame_type, flags, data)

    def _discard(self) -> None:
        count = min(self._to_discard, len(self._buffer))
        del self._buffer[:count]
        self._to_discard -= count
