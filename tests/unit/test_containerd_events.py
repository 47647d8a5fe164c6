"""Each event of the core as containerd's message: topic, names, pid, exit."""

from typing import get_args

import pytest

from shim.containerd.events import translate_event
from shim.guest.values import ProcessName
from shim.sandbox.events import (
    ContainerDeleted,
    ContainerPaused,
    ContainerResumed,
    Event,
    ExecAdded,
    Exit,
    OutOfMemory,
    ProcessExited,
    ProcessStarted,
)

PID = 42
INIT, EXEC = ProcessName("c1"), ProcessName("c1", "e1")
EXIT = Exit(7, 5_000_000_003)
CASES: list[tuple[Event, str, dict[str, object]]] = [
    (ProcessStarted(INIT), "start", {"container_id": "c1", "pid": PID}),
    (ProcessStarted(EXEC), "exec-started", {"container_id": "c1", "exec_id": "e1", "pid": PID}),
    (ExecAdded(EXEC), "exec-added", {"container_id": "c1", "exec_id": "e1"}),
    (ProcessExited(INIT, EXIT), "exit", {"id": "c1", "pid": PID, "exit_status": 7}),
    (ProcessExited(EXEC, EXIT), "exit", {"container_id": "c1", "id": "e1", "exit_status": 7}),
    (ContainerDeleted("c1", EXIT), "delete", {"id": "", "pid": PID, "exit_status": 7}),
    (ContainerPaused("c1"), "paused", {"container_id": "c1"}),
    (ContainerResumed("c1"), "resumed", {"container_id": "c1"}),
    (OutOfMemory("c1"), "oom", {"container_id": "c1"}),
]


def test_every_event_has_a_case() -> None:
    assert {type(event) for event, _, _ in CASES} == set(get_args(Event))


@pytest.mark.parametrize(("event", "topic", "fields"), CASES)
def test_an_event_becomes_a_message(event: Event, topic: str, fields: dict[str, object]) -> None:
    found_topic, message = translate_event(event, PID)
    assert found_topic == topic
    assert {name: getattr(message, name) for name in fields} == fields


@pytest.mark.parametrize("event", [ProcessExited(INIT, EXIT), ContainerDeleted("c1", EXIT)])
def test_the_exits_time_is_kept_to_the_nanosecond(event: Event) -> None:
    _, message = translate_event(event, PID)
    assert message.exited_at.ToNanoseconds() == EXIT.at_ns  # type: ignore[attr-defined]
