"""The control socket: every packet is answered or refused, no descriptor is lost."""

import json
import os
import socket
from collections.abc import Iterator

import pytest

from proto.control import Event
from shim.errors import HostResource, InvalidArgument
from shim.vmm.control import ControlChannel, MalformedPacket, Request


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, ControlChannel]]:
    shim, vmm = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with shim, vmm:
        yield shim, ControlChannel(vmm)


def test_a_request_arrives_with_its_descriptors(sockets) -> None:
    shim, channel = sockets
    reader, writer = os.pipe()
    packet = json.dumps({"id": 7, "op": "open_stream", "args": {"stream": 1}}).encode()
    socket.send_fds(shim, [packet], [writer])
    os.close(writer)
    with channel.receive() as request:
        assert (request.id, request.operation, request.arguments) == (
            7,
            "open_stream",
            {"stream": 1},
        )
        (fd,) = request.take_fds(1)
    assert not os.get_inheritable(fd)
    os.write(fd, b"x")  # the descriptor that was taken outlives the request
    os.close(fd)
    assert os.read(reader, 2) == b"x"
    os.close(reader)


def test_descriptors_that_nobody_takes_are_closed(sockets) -> None:
    shim, channel = sockets
    reader, writer = os.pipe()
    socket.send_fds(shim, [b'{"id": 1, "op": "x"}'], [writer])
    os.close(writer)
    with channel.receive() as request, pytest.raises(InvalidArgument, match="1 descriptors, not 2"):
        request.take_fds(2)
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize(
    ("packet", "request_id"),
    [
        (b"\xff", None),
        (b"[1]", None),
        (b'{"op": "boot"}', None),
        (b'{"id": "1", "op": "boot"}', None),
        (b'{"id": 4}', 4),
        (b'{"id": 4, "op": "boot", "args": []}', 4),
    ],
)
def test_malformed_packets_are_reported_with_the_id_if_there_is_one(
    sockets, packet: bytes, request_id: int | None
) -> None:
    shim, channel = sockets
    reader, writer = os.pipe()
    socket.send_fds(shim, [packet], [writer])
    os.close(writer)
    with pytest.raises(MalformedPacket) as caught:
        channel.receive()
    assert caught.value.id == request_id
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_more_descriptors_than_a_packet_may_carry_are_refused_and_closed(sockets) -> None:
    shim, channel = sockets
    reader, writer = os.pipe()
    socket.send_fds(shim, [b'{"id": 1, "op": "boot"}'], [writer] * 17)
    os.close(writer)
    with pytest.raises(MalformedPacket, match="16 descriptors"):
        channel.receive()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_shims_end_closing_is_the_end(sockets) -> None:
    shim, channel = sockets
    shim.close()
    assert channel.receive() is None


def test_sending_to_a_shim_that_is_gone_does_not_raise(sockets) -> None:
    shim, channel = sockets
    shim.close()
    channel.send_event(Event.STOPPED, {})


def test_an_error_travels_by_its_category(sockets) -> None:
    shim, channel = sockets
    channel.refuse(3, HostResource("/dev/kvm: gone"))
    assert json.loads(shim.recv(4096)) == {
        "id": 3,
        "error": {"category": "HostResource", "message": "/dev/kvm: gone"},
    }


def test_a_request_closes_at_its_end_what_is_left_even_after_an_error() -> None:
    reader, writer = os.pipe()
    with pytest.raises(RuntimeError), Request(1, "boot", {}, [writer]):
        raise RuntimeError
    assert os.read(reader, 1) == b""
    os.close(reader)
