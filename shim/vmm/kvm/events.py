"""What native's threads report of a machine: its end, and faults of its devices.

Owns the queue and its eventfd; the poll loop of `process` watches it.
"""

from typing import Any, Final

from native.ffi import Events, check, ffi, lib
from proto.control import StoppedEvent, StopReason
from shim.vmm.kvm.part import Part

REASONS: Final = (
    ("MACHINE_POWEROFF", StopReason.POWEROFF),
    ("MACHINE_RESET", StopReason.RESET),
    ("MACHINE_TRIPLE_FAULT", StopReason.TRIPLE_FAULT),
    ("MACHINE_KVM_ERROR", StopReason.KVM_ERROR),
)
MAX_REPORTED_FAULTS: Final = 16


class MachineEvents(Part):
    """Outlives everything that may report: vCPUs, devices."""

    name = "events"

    def __init__(self) -> None:
        events = ffi.new("struct machine_events **")
        check(lib.machine_events_new(events), "machine_events_new")
        self.pointer: Events = events[0]
        self.fd: int = lib.machine_events_fd(self.pointer)
        self.reasons = {getattr(lib, name): reason for name, reason in REASONS}
        self.fault_count = 0

    def take(self) -> tuple[StoppedEvent | None, list[str]]:
        """All queued events: the end, if it came, and texts of the first faults.

        A hostile guest can cause any number of faults: after a few they are only counted.
        """
        event = ffi.new("struct machine_event *")
        stopped = None
        faults = []
        while lib.machine_events_next(self.pointer, event) > 0:
            text = ffi.string(event.text).decode(errors="replace")
            reason = self.reasons.get(event.kind)
            if reason is not None:
                where = f"vCPU {event.vcpu}: " if event.vcpu >= 0 and text else ""
                stopped = StoppedEvent(reason, where + text)
                continue
            self.fault_count += 1
            if self.fault_count <= MAX_REPORTED_FAULTS:
                faults.append(text)
        return stopped, faults

    def read_counters(self) -> dict[str, Any]:
        return {"faults": self.fault_count}

    def close(self) -> None:
        lib.machine_events_free(self.pointer)
        self.pointer = ffi.NULL
