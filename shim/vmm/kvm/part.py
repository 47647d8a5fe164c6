"""A part of a machine: the interface through which code handles all parts alike.

`builder` makes and closes a part.  Only the part knows what its saved state means.
"""

from typing import Any, Protocol

from shim.vmm.kvm.bus import Bus

PartState = dict[str, bytes]
"""A part's saved state, by names of its own: opaque to all others."""


class Part(Protocol):
    """attach → (restore, rewind) → begin → vCPUs run → (stop → save) → close.

    Each part implements what concerns it; most have no state of their own.
    """

    name: str
    """Unique among the parts."""

    def attach(self, bus: Bus) -> None:
        """The part answers the guest's accesses from now on.  Before vCPUs run."""
        return

    def restore(self, state: PartState) -> None:
        """Takes the state that `save` returned in another machine."""
        return

    def rewind(self) -> None:
        """After `restore`: sets its clock back to the saved time, however long ago that is."""
        return

    def begin(self, cloned: bool) -> None:
        """Called when memory and all parts are as the guest will see them."""
        return

    def read_obstacle(self) -> str:
        """Why the machine cannot be saved now, but perhaps soon; "" if it can."""
        return ""

    def stop(self) -> None:
        """For good: the part changes nothing any more.  The vCPUs are paused."""
        return

    def save(self) -> PartState:
        """Returns the state.  Called after all parts have stopped."""
        return {}

    def flush(self) -> None:
        """The guest has ended: writes out what is still buffered."""
        return

    def read_counters(self) -> dict[str, Any]:
        """Counters by topic; a topic that several parts share has a dictionary."""
        return {}

    def close(self) -> None:
        """Frees what it owns."""
        return
