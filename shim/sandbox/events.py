"""Events of a sandbox's containers as plain values, and the interface of their listener.

Owns nothing.  Times are nanoseconds of CLOCK_REALTIME.
"""

from dataclasses import dataclass
from typing import Protocol

from shim.guest.values import ProcessName


@dataclass(frozen=True, slots=True)
class Exit:
    status: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    process: ProcessName


@dataclass(frozen=True, slots=True)
class ExecAdded:
    process: ProcessName


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """Sent after its output was handed over, and before any Wait is answered."""

    process: ProcessName
    exit: Exit


@dataclass(frozen=True, slots=True)
class ContainerDeleted:
    container_id: str
    exit: Exit
    """Of its init process."""


@dataclass(frozen=True, slots=True)
class ContainerPaused:
    container_id: str


@dataclass(frozen=True, slots=True)
class ContainerResumed:
    container_id: str


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The guest's kernel has killed a process for lack of memory."""

    container_id: str


Event = (
    ProcessStarted
    | ExecAdded
    | ProcessExited
    | ContainerDeleted
    | ContainerPaused
    | ContainerResumed
    | OutOfMemory
)


class Listener(Protocol):
    """A front end, which informs its clients."""

    def handle(self, event: Event) -> None:
        """Called on the event loop, in the order of the events; must not wait."""
