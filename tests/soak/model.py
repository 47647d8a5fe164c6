"""What containerd must answer, given what has been done so far.

Pure.  A container is in one of three states; for every action the table says in
which states it succeeds and where it leads.  What the table does not have must
be refused, and changes nothing.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

TERM_STATUS: Final = 7
"""With which the containers' program ends at SIGTERM."""
KILL_STATUS: Final = 137
MIB: Final = 1 << 20


class State(StrEnum):
    """As `ctr task ls` spells them."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"


class Action(StrEnum):
    START = "start"
    EXEC = "exec"
    TERMINATE = "terminate"
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"
    METRICS = "metrics"
    UPDATE = "update"
    DELETE = "delete"


TRANSITIONS: Final[dict[tuple[Action, State], State]] = {
    (Action.EXEC, State.RUNNING): State.RUNNING,
    (Action.TERMINATE, State.RUNNING): State.STOPPED,
    (Action.KILL, State.RUNNING): State.STOPPED,
    (Action.KILL, State.PAUSED): State.STOPPED,
    (Action.PAUSE, State.RUNNING): State.PAUSED,
    (Action.RESUME, State.PAUSED): State.RUNNING,
    (Action.METRICS, State.RUNNING): State.RUNNING,
    (Action.METRICS, State.PAUSED): State.PAUSED,
    (Action.UPDATE, State.RUNNING): State.RUNNING,
    (Action.UPDATE, State.PAUSED): State.PAUSED,
    (Action.DELETE, State.STOPPED): State.STOPPED,
}
UNTRIED: Final = frozenset({(Action.TERMINATE, State.PAUSED)})
"""Neither success nor refusal: the signal waits for the resume."""
WEIGHTS: Final = {
    Action.EXEC: 8,
    Action.METRICS: 3,
    Action.UPDATE: 3,
    Action.PAUSE: 3,
    Action.RESUME: 5,
    Action.TERMINATE: 1,
    Action.KILL: 1,
    Action.DELETE: 2,
}
START_WEIGHT: Final = 4
ENDING: Final = frozenset({Action.TERMINATE, Action.KILL, Action.DELETE})


@dataclass(frozen=True)
class Step:
    action: Action
    name: str
    number: int
    """Makes what is asked for this time its own: output, status, limit."""


@dataclass
class Modelled:
    state: State = State.RUNNING
    status: int | None = None
    limit_bytes: int | None = None
    lasting: bool = False
    """Never ended: what its processes hold is compared at the end."""


@dataclass
class Model:
    """Call order: any number of `choose`, `succeeds`, `apply`."""

    most: int
    containers: dict[str, Modelled] = field(default_factory=dict)
    made: int = 0

    def choose(self, dice: random.Random) -> Step:
        number = dice.randrange(2, 100)
        choices: list[tuple[Action, str]] = []
        weights: list[int] = []
        if len(self.containers) < self.most:
            choices.append((Action.START, f"soak-{self.made}"))
            weights.append(START_WEIGHT)
        for name, container in self.containers.items():
            for action, weight in WEIGHTS.items():
                if (action, container.state) in UNTRIED:
                    continue
                if container.lasting and action in ENDING:
                    continue
                choices.append((action, name))
                weights.append(weight)
        action, name = dice.choices(choices, weights)[0]
        return Step(action, name, number)

    def succeeds(self, step: Step) -> bool:
        if step.action is Action.START:
            return True
        return (step.action, self.containers[step.name].state) in TRANSITIONS

    def apply(self, step: Step) -> None:
        """Takes note of a step that succeeded, as `succeeds` said."""
        if step.action is Action.START:
            self.containers[step.name] = Modelled(lasting=not self.made)
            self.made += 1
            return
        container = self.containers[step.name]
        container.state = TRANSITIONS[step.action, container.state]
        if step.action is Action.UPDATE:
            container.limit_bytes = read_limit(step)
        elif step.action is Action.TERMINATE:
            container.status = TERM_STATUS
        elif step.action is Action.KILL:
            container.status = KILL_STATUS
        elif step.action is Action.DELETE:
            del self.containers[step.name]


def read_limit(step: Step) -> int:
    """The memory limit that an update asks for, in bytes."""
    return (64 + step.number) * MIB
