"""The states of a process and the actions that change them.

Pure: one table.  A state changes only through `advance`; an action that the table
does not have is a FailedPrecondition that names the action and the state.
"""

from enum import StrEnum
from typing import Final

from shim.errors import FailedPrecondition


class State(StrEnum):
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DELETED = "deleted"


class Action(StrEnum):
    START = "start"
    CONFIRM = "confirm the start of"
    FAIL = "give up the start of"
    EXIT = "record the exit of"
    PAUSE = "pause"
    RESUME = "resume"
    DELETE = "delete"


TRANSITIONS: Final[dict[tuple[State, Action], State]] = {
    (State.CREATED, Action.START): State.STARTING,
    (State.CREATED, Action.EXIT): State.STOPPED,
    (State.CREATED, Action.DELETE): State.DELETED,
    (State.STARTING, Action.CONFIRM): State.RUNNING,
    (State.STARTING, Action.FAIL): State.STOPPED,
    (State.STARTING, Action.EXIT): State.STOPPED,
    (State.RUNNING, Action.EXIT): State.STOPPED,
    (State.RUNNING, Action.PAUSE): State.PAUSED,
    (State.PAUSED, Action.RESUME): State.RUNNING,
    (State.PAUSED, Action.EXIT): State.STOPPED,
    (State.STOPPED, Action.DELETE): State.DELETED,
}


def advance(state: State, action: Action, subject: str) -> State:
    """The next state; `subject` names the process in an error."""
    following = TRANSITIONS.get((state, action))
    if following is None:
        raise FailedPrecondition(f"cannot {action} {subject}: it is {state}")
    return following
