"""What a machine is made of, as those see it who deal with all of it.

A part is made by `builder`, which closes it, and keeps to itself what it saves.
"""

from typing import Any, Protocol

from shim.vmm.kvm.bus import Bus

PartState = dict[str, bytes]
"""What a part knows by its own names: opaque to everybody else."""


class Part(Protocol):
    """attach → (restore, rewind) → begin → vCPUs run → (stop → save) → close.

    Each part implements what concerns it; most have no state of their own.
    """

    name: str
    """Of no other part."""

    def attach(self, bus: Bus) -> None:
        """From now on it answers the guest's accesses; before vCPUs run."""
        return

    def restore(self, state: PartState) -> None:
        """It is as it was when `save` answered this, in another machine."""
        return

    def rewind(self) -> None:
        """After `restore`: its clock stands where it stood then, whatever time has passed."""
        return

    def begin(self, cloned: bool) -> None:
        """Memory and all parts are as the guest will find them."""
        return

    def read_obstacle(self) -> str:
        """Why the machine cannot be saved now, but may be soon; "": nothing in the way."""
        return ""

    def stop(self) -> None:
        """For good: it changes nothing any more.  The vCPUs are paused."""
        return

    def save(self) -> PartState:
        """After all parts have stopped."""
        return {}

    def flush(self) -> None:
        """The guest has ended: what it has written is where it belongs."""
        return

    def read_counters(self) -> dict[str, Any]:
        """By topic; a topic of several parts has a dictionary."""
        return {}

    def close(self) -> None:
        """Frees what it owns."""
        return
