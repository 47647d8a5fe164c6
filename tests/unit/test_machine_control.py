"""The shim's end of the control socket, against a scripted vmm on the other."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from proto.control import (
    MAX_PACKET_BYTES,
    Operation,
    StoppedEvent,
    StreamClosedEvent,
)
from shim.errors import GuestFault, HostResource
from shim.machine.control import TURN_PACKETS, ControlSocket
from shim.machine.messages import ProtocolFault


class Vmm:
    """The vmm's end of the socket, and the events that the shim's end has reported."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.events: list[StoppedEvent | StreamClosedEvent] = []
        self.faults: list[str] = []
        self.told = asyncio.Event()
        self.control = ControlSocket(ours, self._handle, self.faults.append)

    def _handle(self, event: StoppedEvent | StreamClosedEvent) -> None:
        self.events.append(event)
        self.told.set()

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        packet, fds, _, _ = socket.recv_fds(self.socket, MAX_PACKET_BYTES, 8)
        return json.loads(packet), fds

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
    for fd in (reader, writer, copy):
        os.close(fd)


async def test_more_than_the_socket_holds_is_sent_when_there_is_room(vmm: Vmm) -> None:
    reader, writer = os.pipe()
    text = "x" * 20_000
    answers = [vmm.control.send(Operation.COUNTERS, {"t": text}, [writer]) for _ in range(100)]
    os.close(writer)
    for _ in answers:
        request, (copy,) = await asyncio.to_thread(vmm.receive)
        os.close(copy)
        vmm.send(id=request["id"], result={"id": request["id"]})
    results = [result["id"] for result in await asyncio.gather(*answers)]
    assert results == sorted(results)
    assert os.read(reader, 1) == b""
    os.close(reader)
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_events_are_reported_as_they_come(vmm: Vmm) -> None:
    vmm.send(event="stream_closed", args={"stream": 3, "bytes_moved": 9, "error": 0})
    await asyncio.wait_for(vmm.told.wait(), 20)
    assert vmm.events == [StreamClosedEvent(stream=3, bytes_moved=9, error=0)]


async def test_the_first_message_against_the_protocol_ends_it(vmm: Vmm) -> None:
    """Open requests then fail, and later messages are not read."""
    answer = vmm.control.send(Operation.COUNTERS, {})
    vmm.socket.send(b"{")
    vmm.send(event="stopped", args={"reason": "reset", "detail": ""})
    await vmm.closed()
    assert (vmm.faults, vmm.events) == (["no JSON: b'{'"], [])
    with pytest.raises(GuestFault):
        await answer
    with pytest.raises(ConnectionError):
        vmm.send(id=1, result={})


async def test_an_answer_to_nothing_is_against_it(vmm: Vmm) -> None:
    vmm.send(id=7, result={})
    await vmm.closed()
    assert vmm.faults == ["an answer to request 7, which is not open"]


async def test_an_answer_comes_once(vmm: Vmm) -> None:
    answer = vmm.control.send(Operation.COUNTERS, {})
    number = vmm.receive()[0]["id"]
    vmm.send(id=number, result={})
    vmm.send(id=number, result={})
    assert await answer == {}
    await vmm.closed()
    assert vmm.faults == [f"an answer to request {number}, which is not open"]


async def test_who_has_given_up_may_be_answered(vmm: Vmm) -> None:
    vmm.control.send(Operation.COUNTERS, {}).cancel()
    vmm.send(id=vmm.receive()[0]["id"], result={})
    vmm.send(event="stopped", args={"reason": "reset", "detail": ""})
    await asyncio.wait_for(vmm.told.wait(), 20)
    assert vmm.faults == []


async def test_an_event_that_nobody_expects_is_against_it() -> None:
    def refuse(event: StoppedEvent | StreamClosedEvent) -> None:
        assert isinstance(event, StoppedEvent)
        raise ProtocolFault(f"{event.reason} again")

    faults: list[str] = []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control = ControlSocket(ours, refuse, faults.append)
    with theirs:
        theirs.send(b'{"event": "stopped", "args": {"reason": "reset", "detail": ""}}')
        await asyncio.wait_for(control.closed.wait(), 20)
    assert faults == ["reset again"]


async def test_a_packet_that_is_too_long_is_against_it(vmm: Vmm) -> None:
    """Truncated, it may look like a valid one."""
    event = b'{"event": "stopped", "args": {"reason": "reset", "detail": ""}}'
    vmm.socket.send(event.ljust(MAX_PACKET_BYTES + 1))
    await vmm.closed()
    assert (vmm.faults, vmm.events) == (["a packet of more than 65536 bytes"], [])


async def test_descriptors_are_against_it_and_none_arrives(vmm: Vmm) -> None:
    reader, writer = os.pipe()
    before = set(os.listdir("/proc/self/fd"))
    event = b'{"event": "stopped", "args": {"reason": "reset", "detail": ""}}'
    socket.send_fds(vmm.socket, [event], [writer] * 200)
    os.close(writer)
    await vmm.closed()
    assert (vmm.faults, vmm.events) == (["descriptors"], [])
    assert set(os.listdir("/proc/self/fd")) < before
    assert os.read(reader, 1) == b""  # no copy of the write end is left
    os.close(reader)


async def test_many_messages_at_once_leave_room_for_others(vmm: Vmm) -> None:
    """Valid ones: the events of streams that all end together."""
    vmm.socket.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            vmm.send(event="stream_closed", args={"stream": sent, "bytes_moved": 0, "error": 0})
            sent += 1
    assert sent > TURN_PACKETS
    while len(vmm.events) < sent:
        before = len(vmm.events)
        await asyncio.sleep(0)
        assert len(vmm.events) - before <= TURN_PACKETS


async def test_a_flood_costs_one_message(vmm: Vmm) -> None:
    """However fast a vmm that has been taken over sends."""
    packet = json.dumps({"event": "nonsense", "args": {}}).encode()

    def flood() -> int:
        for sent in range(100_000):
            try:
                vmm.socket.send(packet)
            except OSError:
                return sent
        return 100_000

    flooding = asyncio.create_task(asyncio.to_thread(flood))
    await vmm.closed()
    assert await flooding < 1000
    assert len(vmm.faults) == 1
    await asyncio.get_running_loop().shutdown_default_executor()


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
