"""Frames of questions and answers, and how a name server's sockets are found."""

import pytest

from proto.names import Frame, FrameDecoder, Transport
from shim.net.listeners import TCP_LISTENING, UDP_UNCONNECTED, find_port

FRAMES = (
    Frame(1, Transport.UDP, b"question"),
    Frame(0xFFFFFFFF, Transport.TCP, b""),
    Frame(7, Transport.UDP, bytes(65535)),
)
UDP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout
  12: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0
  13: 0B00007F:B2A1 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0
"""
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout
   0: 0B00007F:0050 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0
   1: 0B00007F:9C41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0
"""


@pytest.mark.parametrize("size", [1, 5, 70000, 1 << 20])
def test_frames_arrive_whole_however_the_stream_is_cut(size: int) -> None:
    data = b"".join(frame.encode() for frame in FRAMES)
    decoder = FrameDecoder()
    pieces = (data[start : start + size] for start in range(0, len(data), size))
    assert tuple(frame for piece in pieces for frame in decoder.feed(piece)) == FRAMES


def test_a_transport_that_is_none_ends_the_stream() -> None:
    with pytest.raises(ValueError, match="9 is not a valid Transport"):
        list(FrameDecoder().feed(b"\0\0\0\1\x09\0\0"))


def test_the_ports_of_what_listens_on_the_address() -> None:
    assert find_port(UDP, "127.0.0.11", UDP_UNCONNECTED) == 0xB2A1
    assert find_port(TCP, "127.0.0.11", TCP_LISTENING) == 0x9C41


def test_no_port_without_a_listener_there() -> None:
    assert find_port(UDP, "127.0.0.12", UDP_UNCONNECTED) == 0
    assert find_port("header\n", "127.0.0.11", UDP_UNCONNECTED) == 0
