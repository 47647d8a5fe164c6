"""What a vmm says on its control socket, checked: proto/control.py has the messages.

Pure.  The vmm may have been taken over by its guest: whatever does not follow the
protocol exactly is a ProtocolFault, which ends it.
"""

import json
from typing import Any, Final, NamedTuple

from proto.control import Event, StoppedEvent, StopReason, StreamClosedEvent
from shim.errors import BY_CATEGORY, GuestFault, SampanError
from shim.text import clean_text

MAX_ERRNO: Final = 4095
MAX_COUNT: Final = (1 << 64) - 1
QUOTED: Final = 120


class ProtocolFault(Exception):
    """Its text says what is wrong, and is safe in a log."""


class Answer(NamedTuple):
    """To the request `id`; one of the two."""

    id: int
    result: dict[str, Any]
    error: SampanError | None


Message = Answer | StoppedEvent | StreamClosedEvent


def parse_message(packet: bytes) -> Message:
    try:
        message = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise ProtocolFault(f"no JSON: {quote(packet)}") from error
    if not isinstance(message, dict):
        raise ProtocolFault(f"no object: {quote(packet)}")
    try:
        return parse_event(message) if "event" in message else parse_answer(message)
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolFault(f"{clean_text(str(error), QUOTED)}: {quote(packet)}") from error


def parse_event(message: dict[str, Any]) -> StoppedEvent | StreamClosedEvent:
    event, arguments = Event(message["event"]), read_object(message, "args")
    if event is Event.STOPPED:
        reason = StopReason(read_text(arguments, "reason"))
        return StoppedEvent(reason, clean_text(read_text(arguments, "detail")))
    return StreamClosedEvent(
        read_number(arguments, "stream", MAX_COUNT),
        read_number(arguments, "bytes_moved", MAX_COUNT),
        read_number(arguments, "error", MAX_ERRNO),
    )


def parse_answer(message: dict[str, Any]) -> Answer:
    number = read_number(message, "id", MAX_COUNT)
    if "error" not in message:
        return Answer(number, read_object(message, "result"), None)
    error = read_object(message, "error")
    category = BY_CATEGORY.get(read_text(error, "category"), GuestFault)
    return Answer(number, {}, category(clean_text(read_text(error, "message"))))


def read_object(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values[name]
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no object")
    return value


def read_text(values: dict[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no string")
    return value


def read_number(values: dict[str, Any], name: str, limit: int) -> int:
    value = values[name]
    if type(value) is not int or not 0 <= value <= limit:  # True is an int as well
        raise TypeError(f"{name} is no number from 0 to {limit}")
    return value


def quote(packet: bytes) -> str:
    return repr(packet[:QUOTED]) + ("…" if len(packet) > QUOTED else "")
