"""What native's threads tell of a machine: its end, and faults of its devices.

Owns the queue and its eventfd; the poll loop of `process` watches it.
"""

from typing import Any, Final

from native.ffi import check, ffi, lib
from proto.control import StoppedEvent, StopReason

REASONS: Final = (
    ("MACHINE_POWEROFF", StopReason.POWEROFF),
    ("MACHINE_RESET", StopReason.RESET),
    ("MACHINE_TRIPLE_FAULT", StopReason.TRIPLE_FAULT),
    ("MACHINE_KVM_ERROR", StopReason.KVM_ERROR),
)


class MachineEvents:
    """Outlives everything that may report: vCPUs, devices."""

    def __init__(self) -> None:
        events = ffi.new("struct machine_events **")
        check(lib.machine_events_new(events), "machine_events_new")
        self.events: Any = events[0]
        self.fd: int = lib.machine_events_fd(self.events)
        self.reasons = {getattr(lib, name): reason for name, reason in REASONS}
        self.faults: list[str] = []

    def take(self) -> StoppedEvent | None:
        """Everything that waits: faults are kept in `faults`, the end is the answer."""
        event = ffi.new("struct machine_event *")
        stopped = None
        while lib.machine_events_next(self.events, event) > 0:
            text = ffi.string(event.text).decode(errors="replace")
            reason = self.reasons.get(event.kind)
            if reason is None:
                self.faults.append(text)
            else:
                where = f"vCPU {event.vcpu}: " if event.vcpu >= 0 and text else ""
                stopped = StoppedEvent(reason, where + text)
        return stopped

    def close(self) -> None:
        if self.events is not None:
            lib.machine_events_free(self.events)
            self.events = None
