"""Every message of a vmm follows the protocol exactly, or it is a fault."""

import json
import random
from typing import Any

import pytest

from proto.control import MAX_PACKET_BYTES, StoppedEvent, StopReason, StreamClosedEvent
from shim.errors import GuestFault, HostResource
from shim.machine.messages import Answer, ProtocolFault, parse_message
from shim.text import MAX_TEXT

CLOSED = {"stream": 3, "bytes_moved": 9, "error": 32}
STOPPED = {"reason": "kvm_error", "detail": "exit 17"}
ROUNDS = 20_000


def parse(**message: Any) -> Any:
    return parse_message(json.dumps(message).encode())


def test_what_the_protocol_has_is_parsed_into_its_types() -> None:
    assert parse(id=4, result={"a": 1}) == Answer(4, {"a": 1}, None)
    assert parse(event="stopped", args=STOPPED) == StoppedEvent(StopReason.KVM_ERROR, "exit 17")
    assert parse(event="stream_closed", args=CLOSED) == StreamClosedEvent(3, 9, 32)


@pytest.mark.parametrize(
    ("category", "expected"), [("HostResource", HostResource), ("SystemExit", GuestFault)]
)
def test_an_error_is_of_its_category_or_the_guests_fault(category: str, expected: type) -> None:
    answer = parse(id=1, error={"category": category, "message": "a\nb\x1b[2J" + "x" * 5000})
    assert type(answer.error) is expected
    assert str(answer.error).startswith("a b [2Jxxx")
    assert len(str(answer.error)) == MAX_TEXT + 1


def test_what_a_guest_has_to_do_with_its_end_is_printable() -> None:
    stopped = parse(event="stopped", args={"reason": "reset", "detail": "\x1b]0;\u202e\n" * 999})
    assert stopped.detail.isprintable()
    assert len(stopped.detail) <= MAX_TEXT + 1


WRONG: tuple[dict[str, Any], ...] = (
    {"id": 1},
    {"id": 1, "result": None},
    {"id": 1, "result": []},
    {"id": 1, "result": "cloned"},
    {"id": True, "result": {}},
    {"id": 1.0, "result": {}},
    {"id": "1", "result": {}},
    {"id": -1, "result": {}},
    {"id": None, "error": {"category": "HostResource", "message": "m"}},
    {"id": 1, "error": None},
    {"id": 1, "error": "m"},
    {"id": 1, "error": {}},
    {"id": 1, "error": {"category": [], "message": "m"}},
    {"id": 1, "error": {"category": "HostResource", "message": {}}},
    {"event": None, "args": {}},
    {"event": [], "args": {}},
    {"event": "x", "args": {}},
    {"event": "stopped"},
    {"event": "stopped", "args": []},
    {"event": "stopped", "args": STOPPED | {"reason": "x"}},
    {"event": "stopped", "args": STOPPED | {"reason": ["reset"]}},
    {"event": "stopped", "args": STOPPED | {"detail": 1}},
    {"event": "stream_closed", "args": {}},
    {"event": "stream_closed", "args": CLOSED | {"stream": "3"}},
    {"event": "stream_closed", "args": CLOSED | {"stream": [3]}},
    {"event": "stream_closed", "args": CLOSED | {"stream": -3}},
    {"event": "stream_closed", "args": CLOSED | {"stream": 1 << 64}},
    {"event": "stream_closed", "args": CLOSED | {"bytes_moved": 1e300}},
    {"event": "stream_closed", "args": CLOSED | {"error": False}},
    {"event": "stream_closed", "args": CLOSED | {"error": 4096}},
)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"3",
        b"null",
        b"{}",
        b"[" * MAX_PACKET_BYTES,
        b'{"a":' * (MAX_PACKET_BYTES // 5),
        b'{"id": ' + b"9" * 60_000 + b', "result": {}}',
        *(json.dumps(message).encode() for message in WRONG),
    ],
)
def test_anything_else_is_a_fault_that_is_fit_for_a_log(packet: bytes) -> None:
    with pytest.raises(ProtocolFault) as caught:
        parse_message(packet)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_damaged_messages_are_faults_and_nothing_worse() -> None:
    chance = random.Random(17)
    good = [
        json.dumps(message).encode()
        for message in (
            {"id": 4, "result": {"cloned": True, "timings_us": {"a": 1}}},
            {"id": 4, "error": {"category": "HostResource", "message": "m"}},
            {"event": "stopped", "args": STOPPED},
            {"event": "stream_closed", "args": CLOSED},
        )
    ]
    faults = 0
    for _ in range(ROUNDS):
        packet = bytearray(chance.choice(good))
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(packet))
            packet[start : start + chance.randint(0, 3)] = chance.choice(
                (b"", b'"', b"[", b"]", b"{", b"}", b":", b"-", b"e9", b"1", b"null", b"\\ud800")
            )
        try:
            parse_message(bytes(packet))
        except ProtocolFault:
            faults += 1
    assert ROUNDS // 2 < faults < ROUNDS
