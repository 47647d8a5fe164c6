"""Messages on a byte stream: each is preceded by its length, 4 bytes, big-endian."""

import struct
from typing import Final, Protocol

LENGTH: Final = struct.Struct(">I")


class FrameError(ValueError):
    """The other side has announced a message that is too long."""


class Reader(Protocol):
    """Of asyncio.StreamReader."""

    async def readexactly(self, n: int, /) -> bytes: ...


def frame(message: bytes) -> bytes:
    return LENGTH.pack(len(message)) + message


async def read_frame(reader: Reader, limit_bytes: int) -> bytes:
    """Bounds: reads no message of more than `limit_bytes`.

    FrameError for one; asyncio.IncompleteReadError at the stream's end, OSError when
    the connection breaks.
    """
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if length > limit_bytes:
        raise FrameError(f"a message of {length} bytes, more than {limit_bytes}")
    return await reader.readexactly(length)
