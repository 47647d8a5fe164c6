"""A machine: the operations that the control socket may request, `start` first.

Made by `builder`, which gives it its parts; owns all of them through one ExitStack.
Operations on all parts go through Part's interface.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any, Final, TypeVar

from proto.control import BootResult, NicArgs, StoppedEvent, StreamArgs, StreamClosedEvent
from shim.errors import FailedPrecondition, HostResource, InvalidArgument
from shim.vmm.devices.net import Nic
from shim.vmm.devices.vsock import Vsock
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.part import Part
from shim.vmm.kvm.vcpus import VcpuSet
from shim.vmm.kvm.working_set import find_working_set
from shim.vmm.snapshot import MachineState, write_snapshot, write_working_set
from shim.vmm.stopwatch import Stopwatch

QUIET_TIMEOUT_S: Final = 60.0
QUIET_POLL_S: Final = 0.02

Kind = TypeVar("Kind", bound=Part)


class Machine:
    """`close` ends it and frees everything: vCPUs, devices, the VM, its memory."""

    def __init__(
        self, ram: GuestRam, bus: Bus, parts: Sequence[Part], pagemap_fd: int = -1
    ) -> None:
        """`parts` in the order in which they are restored; `pagemap_fd`: of
        /proc/self/pagemap, for a machine that is to be saved."""
        self.ram = ram
        self.pagemap_fd = pagemap_fd
        self.bus = bus
        self.parts = parts
        self.stack = ExitStack()
        """Owns all that the machine is made of, once it is complete."""
        self.cloned = False
        self.events = self.find_only(MachineEvents)
        self.vcpus = self.find_only(VcpuSet)
        self.vsock = self.find_only(Vsock)

    def find(self, kind: type[Kind]) -> list[Kind]:
        return [part for part in self.parts if isinstance(part, kind)]

    def find_only(self, kind: type[Kind]) -> Kind:
        (part,) = self.find(kind)
        return part

    @property
    def events_fd(self) -> int:
        """Polls readable when `read_events` has something to return."""
        return self.events.fd

    @property
    def streams_fd(self) -> int:
        """Polls readable when `read_closed_streams` has something to return."""
        return self.vsock.events_fd

    def read_events(self) -> tuple[StoppedEvent | None, list[str]]:
        """How the machine ended, once, and faults of devices; when the end is returned,
        the console's file is complete."""
        stopped, faults = self.events.take()
        if stopped is not None:
            for part in self.parts:
                part.flush()
        return stopped, faults

    def read_closed_streams(self) -> Iterator[StreamClosedEvent]:
        return self.vsock.read_closed()

    def open_stream(self, arguments: StreamArgs, fd: int) -> None:
        """Takes the descriptor over on success."""
        self.vsock.open_stream(arguments, fd)

    def attach_nic(self, arguments: NicArgs, fds: Sequence[int]) -> None:
        """Takes the descriptors over on success."""
        nics = self.find(Nic)
        if not 0 <= arguments.nic < len(nics):
            raise InvalidArgument(f"nic {arguments.nic}: the machine has {len(nics)}")
        nics[arguments.nic].attach_tap(arguments, fds)

    def restore(self, state: MachineState) -> None:
        """Instead of a boot; its memory is mapped already."""
        names = [part.name for part in self.parts]
        if list(state) != names:
            raise HostResource(f"the template has the parts {list(state)}, the machine {names}")
        for part in self.parts:
            part.restore(state[part.name])
        self.cloned = True

    def begin(self) -> None:
        """Called when memory and parts are as the guest will see them."""
        for part in self.parts:
            part.begin(self.cloned)

    def start(self, watch: Stopwatch) -> BootResult:
        """Once; the vCPUs run."""
        self.vcpus.start()
        watch.lap("start")
        return BootResult(self.cloned, watch.timings_us)

    def rewind(self) -> None:
        """Before `start` of a prewarmed clone: hides the waiting time from the guest, whose
        timers and watchdogs would otherwise all be late."""
        if self.cloned:
            for part in self.parts:
                part.rewind()

    def save(self, memory_fd: int, state_fd: int) -> None:
        """Writes a snapshot for clones.  Ends the machine but for its memory: `close` it."""
        self.check_saves()
        self.wait_quiet()
        self.vcpus.pause()
        for part in self.parts:
            part.stop()
        state = {part.name: part.save() for part in self.parts}
        write_snapshot(memory_fd, state_fd, state, self.ram, self.pagemap_fd)

    def save_working_set(self, fd: int) -> None:
        """Writes this clone's working set for later clones of the template."""
        self.check_saves()
        self.vcpus.pause()
        try:
            write_working_set(fd, find_working_set(self.ram, self.pagemap_fd))
        finally:
            self.vcpus.resume()

    def check_saves(self) -> None:
        if self.pagemap_fd < 0:
            raise FailedPrecondition("the machine was not made to be saved")

    def wait_quiet(self) -> None:
        deadline = monotonic() + QUIET_TIMEOUT_S
        while obstacle := next(filter(None, (part.read_obstacle() for part in self.parts)), ""):
            if monotonic() > deadline:
                raise FailedPrecondition(obstacle)
            sleep(QUIET_POLL_S)

    def read_counters(self) -> dict[str, Any]:
        """`exits` to user space by reason, `accesses` by the device that answered, and the
        parts' other counters."""
        found: dict[str, Any] = {"cloned": self.cloned, "accesses": self.bus.read_accesses()}
        for part in self.parts:
            for topic, counted in part.read_counters().items():
                if isinstance(counted, dict):
                    found.setdefault(topic, {}).update(counted)
                else:
                    found[topic] = counted
        return found

    def close(self) -> None:
        self.stack.close()
