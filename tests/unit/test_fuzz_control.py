"""Messages of a vmm, or of a shim, that was taken over: each end goes on."""

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.control import MAX_PACKET_BYTES, Event, Operation
from shim.errors import SampanError
from shim.machine.control import ControlSocket
from shim.vmm.control import ControlChannel, MalformedPacket
from tests.hypotheses import any_json, tried

TIMEOUT_S = 5
KEYS = st.sampled_from(["id", "op", "args", "result", "error", "event"])
IDS = st.sampled_from([0, 1, 2, 3, "2", None])
ERRORS = st.fixed_dictionaries(
    {}, optional={"category": st.sampled_from(["HostResource", "x", 1]), "message": any_json(3)}
)
MESSAGES = st.one_of(
    st.fixed_dictionaries({"id": IDS, "result": any_json(3)}),
    st.fixed_dictionaries({"id": IDS, "error": st.one_of(ERRORS, any_json(3))}),
    st.fixed_dictionaries(
        {"event": st.sampled_from([*Event, "x", 1, []])}, optional={"args": any_json(3)}
    ),
    st.fixed_dictionaries(
        {"id": IDS, "op": st.sampled_from([*Operation, 1])}, optional={"args": any_json(3)}
    ),
    st.dictionaries(KEYS, any_json(3), max_size=4),
    any_json(6),
)
DEEP = st.integers(1, MAX_PACKET_BYTES).map(lambda depth: b"[" * depth)
PACKETS = st.one_of(
    MESSAGES.map(lambda message: json.dumps(message).encode()),
    st.binary(min_size=1, max_size=40),
    DEEP,
)


async def shake(packets: list[bytes]) -> None:
    """What the vmm sends instead of an answer, then the answers: each request ends."""
    problems: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(context))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    faults: list[str] = []
    control = ControlSocket(ours, lambda event: None, faults.append)
    with theirs:
        first = control.send(Operation.COUNTERS, {})
        for packet in packets:
            theirs.send(packet)
        second = control.send(Operation.STOP, {})
        for number in (2, 3):
            theirs.send(json.dumps({"id": number, "result": {}}).encode())
        for answer in (first, second):
            with suppress(SampanError):
                await asyncio.wait_for(answer, TIMEOUT_S)
        control.close()
    assert problems == []
    assert len(faults) == 1
    assert faults[0].isprintable()


@tried
@given(st.lists(PACKETS, max_size=4))
def test_a_shim_hears_a_lying_vmm_out(packets: list[bytes]) -> None:
    asyncio.run(shake(packets))


@tried
@given(PACKETS)
def test_a_vmm_takes_a_request_or_refuses_it(packet: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(packet)
        try:
            request = ControlChannel(ours).receive()
        except MalformedPacket:
            return
        assert request is not None
        assert isinstance(request.arguments, dict)
        assert isinstance(request.operation, str)


@pytest.mark.parametrize("error", ["x", [], {"category": []}, {"category": None}, 7])
async def test_an_error_that_makes_no_sense_still_ends_its_request(error: Any) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    faults: list[str] = []
    control = ControlSocket(ours, lambda event: None, faults.append)
    with theirs:
        answer = control.send(Operation.COUNTERS, {})
        theirs.send(json.dumps({"id": 2, "error": error}).encode())
        with pytest.raises(SampanError, match="the vmm has ended"):
            await asyncio.wait_for(answer, TIMEOUT_S)
    assert len(faults) == 1
