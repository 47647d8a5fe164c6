"""The channel's framing survives any cut of the stream and refuses garbage."""

import pytest

from tests.testhost.frames import HEADER, MAX_PAYLOAD, Decoder, FrameError, Kind, encode

FRAMES = [(Kind.STDOUT, b"\x00\xff" * 9), (Kind.ALIVE, b""), (Kind.EXIT, b'{"status": 7}')]


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_frames_come_out_whole_however_the_stream_is_cut(step: int) -> None:
    stream = b"".join(encode(kind, payload) for kind, payload in FRAMES)
    decoder = Decoder()
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == FRAMES


@pytest.mark.parametrize("header", [(99, 0), (Kind.STDOUT, MAX_PAYLOAD + 1)])
def test_an_unknown_kind_or_an_absurd_length_is_an_error(header: tuple[int, int]) -> None:
    with pytest.raises(FrameError, match=str(header[1])):
        list(Decoder().feed(HEADER.pack(*header)))


def test_a_payload_over_the_limit_is_never_sent() -> None:
    with pytest.raises(FrameError):
        encode(Kind.STDOUT, bytes(MAX_PAYLOAD + 1))
