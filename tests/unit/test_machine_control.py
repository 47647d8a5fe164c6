"""The shim's end of the control socket, against a scripted vmm on the other."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proto.control import MAX_PACKET_BYTES, Event, Operation
from shim.errors import GuestFault, HostResource
from shim.machine.control import ControlSocket


class Vmm:
    """Its end of the socket, and what the shim's end has told of events."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.events: list[tuple[Event, Any]] = []
        self.told = asyncio.Event()
        self.control = ControlSocket(ours, self._handle)

    def _handle(self, event: Event, arguments: Any) -> None:
        self.events.append((event, arguments))
        self.told.set()

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        packet, descriptors, _, _ = socket.recv_fds(self.socket, MAX_PACKET_BYTES, 8)
        return json.loads(packet), descriptors

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message).encode())

    async def closed(self) -> None:
        await asyncio.wait_for(self.control.closed.wait(), 20)


@pytest.fixture
async def vmm() -> AsyncIterator[Vmm]:
    vmm = Vmm()
    yield vmm
    vmm.control.close()
    vmm.socket.close()


async def test_answers_are_paired_whatever_their_order(vmm: Vmm) -> None:
    first = vmm.control.send(Operation.SAVE, {})
    second = vmm.control.send(Operation.COUNTERS, {"a": 1})
    requests = [vmm.receive()[0], vmm.receive()[0]]
    assert [request["op"] for request in requests] == ["save", "counters"]
    vmm.send(id=requests[1]["id"], result={"exits": {}})
    vmm.send(id=requests[0]["id"], result={})
    assert await second == {"exits": {}}
    assert await first == {}


async def test_a_request_sent_before_is_answered_here(vmm: Vmm) -> None:
    booted = vmm.control.expect(1)
    later = vmm.control.send(Operation.COUNTERS, {})
    request, _ = vmm.receive()
    assert request["id"] > 1
    vmm.send(id=1, result={"timings_us": {}})
    assert await booted == {"timings_us": {}}
    vmm.send(id=request["id"], result={})
    await later


async def test_errors_come_back_by_their_category(vmm: Vmm) -> None:
    answer = vmm.control.send(Operation.BOOT, {})
    request, _ = vmm.receive()
    vmm.send(id=request["id"], error={"category": "HostResource", "message": "/dev/kvm: none"})
    with pytest.raises(HostResource, match="/dev/kvm: none"):
        await answer


async def test_an_unknown_category_is_the_guests_fault(vmm: Vmm) -> None:
    answer = vmm.control.send(Operation.BOOT, {})
    request, _ = vmm.receive()
    vmm.send(id=request["id"], error={"category": "SystemExit", "message": "m"})
    with pytest.raises(GuestFault, match="m"):
        await answer


async def test_descriptors_travel_and_stay_the_callers(vmm: Vmm) -> None:
    reader, writer = os.pipe()
    vmm.control.send(Operation.OPEN_STREAM, {"stream": 1}, [writer])
    _, (copy,) = vmm.receive()
    os.write(copy, b"a")
    os.write(writer, b"b")
    assert os.read(reader, 2) == b"ab"
    for descriptor in (reader, writer, copy):
        os.close(descriptor)


async def test_more_than_the_socket_holds_is_sent_when_there_is_room(vmm: Vmm) -> None:
    reader, writer = os.pipe()
    text = "x" * 20_000
    answers = [vmm.control.send(Operation.COUNTERS, {"t": text}, [writer]) for _ in range(100)]
    os.close(writer)
    for _ in answers:
        request, (copy,) = await asyncio.to_thread(vmm.receive)
        os.close(copy)
        vmm.send(id=request["id"], result=request["id"])
    results = await asyncio.gather(*answers)
    assert results == sorted(results)
    assert os.read(reader, 1) == b""
    os.close(reader)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_events_are_told_as_they_come(vmm: Vmm) -> None:
    vmm.send(event="stream_closed", args={"stream": 3, "bytes_moved": 9, "error": 0})
    await asyncio.wait_for(vmm.told.wait(), 20)
    assert vmm.events == [(Event.STREAM_CLOSED, {"stream": 3, "bytes_moved": 9, "error": 0})]


@pytest.mark.parametrize("packet", [b"{", b"[]", b"3", b"{}", b'{"event": "x", "args": {}}'])
async def test_nonsense_is_logged_and_survived(
    vmm: Vmm, packet: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    vmm.socket.send(packet)
    vmm.send(event="stopped", args={"reason": "reset", "detail": ""})
    await asyncio.wait_for(vmm.told.wait(), 20)
    assert "makes no sense" in caplog.text


async def test_a_vmm_that_ends_fails_what_is_open_and_what_comes(vmm: Vmm) -> None:
    answer = vmm.control.send(Operation.COUNTERS, {})
    vmm.socket.close()
    await vmm.closed()
    with pytest.raises(GuestFault, match="the vmm has ended"):
        await answer
    with pytest.raises(GuestFault, match="stop: the vmm has ended"):
        await vmm.control.request(Operation.STOP, {})


async def test_closing_is_what_ends_a_vmm(vmm: Vmm) -> None:
    vmm.control.close()
    vmm.control.close()
    assert vmm.socket.recv(1) == b""
