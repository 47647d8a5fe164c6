"""What happens to a sandbox's containers, in plain values, and who is told.

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
    """After its output was handed over, and before anyone who waits is answered."""

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
    """The guest's kernel has killed a process for want of memory."""

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
    """A front end, which tells its clients."""

    def handle(self, event: Event) -> None:
        """On the event loop, in the order in which things happen; does not wait."""
