"""The states of a process and the steps between them.  Pure.

An init process is CREATING until `crun create` has returned; an exec begins as
CREATED, since nothing runs before its start.  ENDED means that the process is gone
while its output may still be in flight; STOPPED, that its output is complete too.
"""

from enum import Enum
from typing import Final

from agent.errors import FailedPrecondition


class State(Enum):
    CREATING = "being created"
    CREATED = "created"
    STARTING = "being started"
    RUNNING = "running"
    ENDED = "ended"
    STOPPED = "stopped"
    DELETED = "deleted"


class Step(Enum):
    CREATE = "create"  # crun create succeeded
    START = "start"  # start was requested
    STARTED = "started"
    REFUSE = "refuse"  # crun could not start it; an init process still waits
    ABANDON = "abandon"  # crun could not start it, and no process is left to wait for
    EXIT = "exit"  # reaped
    DRAIN = "drain"  # all its output has been delivered
    DELETE = "delete"


TRANSITIONS: Final = {
    (State.CREATING, Step.CREATE): State.CREATED,
    (State.CREATED, Step.START): State.STARTING,
    (State.CREATED, Step.EXIT): State.ENDED,
    (State.STARTING, Step.STARTED): State.RUNNING,
    (State.STARTING, Step.REFUSE): State.CREATED,
    (State.STARTING, Step.ABANDON): State.STOPPED,
    (State.STARTING, Step.EXIT): State.ENDED,
    (State.RUNNING, Step.EXIT): State.ENDED,
    (State.ENDED, Step.DRAIN): State.STOPPED,
    (State.CREATED, Step.DELETE): State.DELETED,
    (State.STOPPED, Step.DELETE): State.DELETED,
}

ALIVE: Final = frozenset({State.CREATED, State.STARTING, State.RUNNING})
"""There may be a process to signal (none yet for an exec that was not started)."""


def advance(state: State, step: Step, name: str) -> State:
    """The state after `step`; `name` is what the error calls the process."""
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise FailedPrecondition(f"cannot {step.value} {name}: it is {state.value}") from None
