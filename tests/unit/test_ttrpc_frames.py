"""ttrpc framing: containerd/ttrpc PROTOCOL.md "Message Framing"."""

import pytest

from shim.ttrpc.frames import (
    HEADER,
    MAX_DATA_BYTES,
    Frame,
    FrameDecoder,
    FrameType,
    OversizedFrame,
    encode_frame,
)

FRAMES = encode_frame(1, FrameType.REQUEST, b"first") + encode_frame(3, FrameType.REQUEST, b"")


def test_header_is_ten_bytes_big_endian() -> None:
    assert encode_frame(0x01020304, FrameType.RESPONSE, b"xy", flags=4) == (
        b"\0\0\0\x02" + b"\x01\x02\x03\x04" + b"\x02" + b"\x04" + b"xy"
    )


@pytest.mark.parametrize("size", range(1, len(FRAMES) + 1))
def test_frames_are_found_however_the_stream_is_cut(size: int) -> None:
    decoder = FrameDecoder()
    found: list[Frame | OversizedFrame] = []
    for start in range(0, len(FRAMES), size):
        found += decoder.feed(FRAMES[start : start + size])
    assert found == [Frame(1, 1, 0, b"first"), Frame(3, 1, 0, b"")]


def test_a_frame_of_the_largest_size_is_accepted() -> None:
    (frame,) = FrameDecoder().feed(encode_frame(1, FrameType.REQUEST, bytes(MAX_DATA_BYTES)))
    assert isinstance(frame, Frame)
    assert len(frame.data) == MAX_DATA_BYTES


def test_oversized_data_is_thrown_away_and_the_next_frame_is_found() -> None:
    decoder = FrameDecoder()
    length = MAX_DATA_BYTES + 1
    found = list(decoder.feed(HEADER.pack(length, 5, FrameType.REQUEST, 0)))
    assert found == [OversizedFrame(5, FrameType.REQUEST, length)]
    for _ in range(length // 65536):
        assert list(decoder.feed(bytes(65536))) == []
    rest = bytes(length % 65536) + encode_frame(7, FrameType.REQUEST, b"next")
    assert list(decoder.feed(rest)) == [Frame(7, 1, 0, b"next")]


def test_oversized_data_is_never_held() -> None:
    decoder = FrameDecoder()
    list(decoder.feed(HEADER.pack(0xFFFFFFFF, 5, FrameType.REQUEST, 0)))
    for _ in range(16):
        list(decoder.feed(bytes(1 << 20)))
    assert len(decoder._buffer) == 0
