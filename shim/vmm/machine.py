"""A machine: what the control socket may ask of it, `start` first.

Made by `builder`; owns every part of itself through one ExitStack.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

from proto.control import BootResult, NicArgs, StoppedEvent, StreamArgs, StreamClosedEvent
from shim.errors import FailedPrecondition, InvalidArgument
from shim.vmm.devices.fs import FsDevice
from shim.vmm.devices.generation import Generation
from shim.vmm.devices.net import Nic
from shim.vmm.devices.pci import PciBus
from shim.vmm.devices.serial import SerialConsole
from shim.vmm.devices.vsock import Vsock
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.vcpu_state import save_vcpu, write_msrs
from shim.vmm.kvm.vcpus import VcpuSet
from shim.vmm.kvm.vm import Vm
from shim.vmm.kvm.vm_state import VmState, restore_clock, save_vm
from shim.vmm.kvm.working_set import find_touched
from shim.vmm.snapshot import MachineState, write_snapshot, write_touched
from shim.vmm.stopwatch import Stopwatch

QUIET_TIMEOUT_S: Final = 60.0
QUIET_POLL_S: Final = 0.02


class MachineParts(NamedTuple):
    vm: Vm
    ram: GuestRam
    events: MachineEvents
    console: SerialConsole
    generation: Generation
    pci: PciBus
    shares: tuple[FsDevice, ...]
    vsock: Vsock
    nics: tuple[Nic, ...]
    bus: Bus
    vcpus: VcpuSet


class Origin(NamedTuple):
    """Where the clocks of a clone's template stood."""

    clock: VmState
    msrs: tuple[bytes, ...]
    """Of each vCPU, its TSC among them."""


class Saving(NamedTuple):
    """What saving the machine, or noting what it touches, takes of the host."""

    msrs: tuple[int, ...]
    xsave_bytes: int
    pagemap_fd: int
    """The machine's, as all its descriptors."""


class Machine:
    """`close` ends it and frees everything: vCPUs, devices, the VM, its memory."""

    def __init__(
        self,
        parts: MachineParts,
        stack: ExitStack,
        origin: Origin | None,
        saving: Saving | None = None,
    ) -> None:
        self.parts = parts
        self.stack = stack
        self.origin = origin
        self.saving = saving

    @property
    def cloned(self) -> bool:
        return self.origin is not None

    @property
    def events_fd(self) -> int:
        """Polls readable when `read_events` has something to answer."""
        return self.parts.events.fd

    @property
    def streams_fd(self) -> int:
        """Polls readable when `read_closed_streams` has something to answer."""
        return self.parts.vsock.events_fd

    def read_events(self) -> tuple[StoppedEvent | None, list[str]]:
        """How the machine ended, once, and faults of devices; by the end the console's
        file is complete."""
        stopped, faults = self.parts.events.take()
        if stopped is not None:
            self.parts.console.flush()
        return stopped, faults

    def read_closed_streams(self) -> Iterator[StreamClosedEvent]:
        return self.parts.vsock.read_closed()

    def open_stream(self, arguments: StreamArgs, fd: int) -> None:
        """Takes the descriptor over on success."""
        self.parts.vsock.open_stream(arguments, fd)

    def attach_nic(self, arguments: NicArgs, fds: Sequence[int]) -> None:
        """Takes the descriptors over on success."""
        nics = self.parts.nics
        if not 0 <= arguments.nic < len(nics):
            raise InvalidArgument(f"nic {arguments.nic}: the machine has {len(nics)}")
        nics[arguments.nic].attach(arguments, fds)

    def start(self, watch: Stopwatch) -> BootResult:
        """Once; the vCPUs run."""
        self.parts.vcpus.start()
        watch.lap("start")
        return BootResult(self.cloned, watch.timings_us)

    def rewind(self) -> None:
        """Before `start`, of a clone that had to wait: the guest does not notice.  Otherwise
        all its timers and watchdogs would find that they are late."""
        if self.origin is not None:
            restore_clock(self.parts.vm.fd, self.origin.clock)
            for vcpu, msrs in zip(self.parts.vcpus.members, self.origin.msrs, strict=True):
                write_msrs(vcpu.fd, msrs)

    def save(self, memory_fd: int, state_fd: int) -> None:
        """For clones to go on from.  Ends the machine, all but its memory: `close` it."""
        parts, saving = self.parts, self.require_saving()
        self.wait_quiet()
        parts.vcpus.pause()
        parts.pci.stop()
        members = parts.vcpus.members
        state = MachineState(
            tsc_khz=members[0].read_tsc_khz(),
            vm=save_vm(parts.vm.fd),
            vcpus=tuple(save_vcpu(vcpu.fd, saving.msrs, saving.xsave_bytes) for vcpu in members),
            serial=parts.console.save(),
            devices=parts.pci.save(),
            sessions={share.tag: share.save() for share in parts.shares},
        )
        write_snapshot(memory_fd, state_fd, state, parts.ram, saving.pagemap_fd)

    def note_touched(self, fd: int) -> None:
        """For clones of the template to find what they will need."""
        saving = self.require_saving()
        self.parts.vcpus.pause()
        try:
            write_touched(fd, find_touched(self.parts.ram, saving.pagemap_fd))
        finally:
            self.parts.vcpus.resume()

    def require_saving(self) -> Saving:
        if self.saving is None:
            raise FailedPrecondition("the machine was not made to be saved")
        return self.saving

    def wait_quiet(self) -> None:
        """A clone has no other end of a connection that was open."""
        deadline = monotonic() + QUIET_TIMEOUT_S
        while (count := self.parts.vsock.connections) > 0:
            if monotonic() > deadline:
                raise FailedPrecondition(f"the guest has {count} connections open")
            sleep(QUIET_POLL_S)

    def read_counters(self) -> dict[str, Any]:
        """`exits` to user space by reason, `accesses` by who answered them."""
        return {
            "cloned": self.cloned,
            "exits": self.parts.vcpus.read_exits(),
            "accesses": self.parts.bus.read_accesses(),
            "devices": self.parts.pci.read_counters(),
            "requests": {share.tag: share.read_requests() for share in self.parts.shares},
            "faults": self.parts.events.fault_count,
        }

    def close(self) -> None:
        self.stack.close()
