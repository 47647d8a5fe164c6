"""The one place where a machine is put together.

Sets everything up in order on one ExitStack, so that teardown is the same order
reversed: vCPUs stop, devices end their threads, the VM goes, its memory after it.
Knows how the parts fit, not how any of them works.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final, Protocol, TypeVar

from proto.contract import GUEST_INIT
from proto.control import MachineConfig, SharePolicy, count_pairs
from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import Range, place_window64, plan_ram
from shim.vmm.boot.x86 import BOOT_MSRS, Topology, build_cpuid, build_entry_state
from shim.vmm.devices.balloon import add_balloon
from shim.vmm.devices.fs import FsDevice
from shim.vmm.devices.generation import Generation
from shim.vmm.devices.net import Nic
from shim.vmm.devices.pci import PciBus
from shim.vmm.devices.power import PowerPorts
from shim.vmm.devices.serial import SerialConsole
from shim.vmm.devices.vsock import Vsock
from shim.vmm.host_files import HostFiles
from shim.vmm.jail.jail import Jail
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.system import KvmSystem
from shim.vmm.kvm.vcpu import Vcpu
from shim.vmm.kvm.vcpu_state import read_msr_numbers, read_xsave_bytes, restore_vcpu
from shim.vmm.kvm.vcpus import VcpuSet
from shim.vmm.kvm.vm import Vm
from shim.vmm.kvm.vm_state import restore_vm
from shim.vmm.kvm.working_set import PageWatch, prefault
from shim.vmm.loader import load_boot_data
from shim.vmm.machine import Machine, MachineParts, Origin, Saving
from shim.vmm.snapshot import MachineState
from shim.vmm.stopwatch import Stopwatch

MAX_VCPUS: Final = 254
"""APIC ids are bytes here; one is the broadcast, one is left for the IO-APIC."""
TSC_TOLERANCE_PPM: Final = 250
"""KVM's own: within it a guest does not notice.  Calibration differs from boot to boot."""
COMMAND_LINE: Final = (
    "console=ttyS0 quiet panic=-1 reboot=a "
    "tsc=reliable no_timer_check random.trust_cpu=on 8250.nr_uarts=1 swiotlb=noforce"
)
"""No bounce buffers: our devices reach all memory, and above 3 GiB they would be 64 MiB."""


class Closable(Protocol):
    def close(self) -> None: ...


Part = TypeVar("Part", bound=Closable)


def boot_machine(
    config: MachineConfig,
    listeners: list[int],
    files: HostFiles,
    jail: Jail | None,
    watch: Stopwatch,
) -> Machine:
    """One that its `start` boots.  Takes `listeners` over.  Whatever fails, nothing of the
    machine is left.  `jail`: where its threads wait for the seal."""
    with ExitStack() as stack:
        stack.callback(close_rest, listeners)
        ram_plan = plan_ram(config.memory_bytes)
        kernel = files.kernel
        check_vcpus(config.vcpus, files.system)
        watch.lap("checks")
        builder = Builder(stack, config, files, ram_plan)
        watch.lap("vm")
        parts = builder.build_parts(listeners, jail)
        parts.vcpus.members[0].set_entry_state(build_entry_state(kernel.kernel.entry_gpa))
        watch.lap("parts")
        kernel.load(builder.ram)
        watch.lap("kernel")
        load_boot_data(builder.ram, ram_plan, config.vcpus, build_command_line(config))
        parts.generation.begin()
        watch.lap("boot_data")
        saving = builder.prepare_saving()
        return Machine(parts, stack.pop_all(), None, saving)


def clone_machine(
    config: MachineConfig,
    listeners: list[int],
    files: HostFiles,
    jail: Jail | None,
    watch: Stopwatch,
) -> Machine:
    """As boot_machine, one that goes on from where `config.template` stands."""
    with ExitStack() as stack:
        stack.callback(close_rest, listeners)
        if files.snapshot is None:
            raise files.refusal or InvalidArgument("template: none is named")
        snapshot = files.snapshot
        ram_plan = plan_ram(config.memory_bytes)
        watch.lap("checks")
        check_vcpus(config.vcpus, files.system)
        builder = Builder(stack, config, files, ram_plan)
        watch.lap("vm")
        parts = builder.build_parts(listeners, jail)
        can_scale = files.system.read_capability("KVM_CAP_TSC_CONTROL") > 0
        set_tsc(snapshot.state.tsc_khz, parts.vcpus.members, can_scale)
        watch.lap("parts")
        snapshot.map(builder.ram)
        watch.lap("memory")
        restore(snapshot.state, parts)
        parts.generation.renew()
        watch.lap("state")
        if snapshot.touched is None:
            builder.own(PageWatch(builder.ram))
        else:
            prefault(builder.ram, parts.vcpus.members[0].fd, snapshot.touched)
        watch.lap("prefault")
        msrs = tuple(vcpu["msrs"] for vcpu in snapshot.state.vcpus)
        origin = Origin({"clock": snapshot.state.vm["clock"]}, msrs)
        saving = builder.prepare_saving()
        return Machine(parts, stack.pop_all(), origin, saving)


def restore(state: MachineState, parts: MachineParts) -> None:
    """Devices last: they read memory, and what they interrupt has to be there."""
    vcpus = parts.vcpus.members
    if state.sessions.keys() != {share.tag for share in parts.shares}:
        raise HostResource(f"the template has the shares {', '.join(state.sessions)}")
    if len(state.vcpus) != len(vcpus):
        raise HostResource(f"the template has {len(state.vcpus)} vCPUs, not {len(vcpus)}")
    restore_vm(parts.vm.fd, state.vm)
    for vcpu, saved in zip(vcpus, state.vcpus, strict=True):
        restore_vcpu(vcpu.fd, saved)
    parts.console.restore(state.serial)
    for share in parts.shares:
        share.restore(state.sessions[share.tag])
    parts.pci.restore(state.devices)


def set_tsc(khz: int, vcpus: Sequence[Vcpu], can_scale: bool) -> None:
    """HostResource where this host's cannot run at the template's rate.

    Without scaling KVM would make good what is missing at every entry.
    """
    own_khz = vcpus[0].read_tsc_khz()
    if khz == own_khz:
        return
    if not can_scale and abs(khz - own_khz) * 10**6 > TSC_TOLERANCE_PPM * own_khz:
        raise HostResource(f"the template's TSC runs at {khz} kHz, this host's at {own_khz} kHz")
    for vcpu in vcpus:
        vcpu.set_tsc_khz(khz)


class Builder:
    """One machine under construction; every part goes on the stack as soon as it is."""

    def __init__(
        self, stack: ExitStack, config: MachineConfig, files: HostFiles, ram_plan: Sequence[Range]
    ) -> None:
        self.stack = stack
        self.config = config
        self.files = files
        self.system = files.system
        self.supported_cpuid = self.system.read_supported_cpuid()
        self.window64 = place_window64(ram_plan)
        self.ram = self.own(GuestRam(ram_plan))
        self.vm = self.own(Vm(self.system))
        self.vm.create_interrupt_controllers()
        self.vm.add_memory(self.ram)

    def own(self, part: Part) -> Part:
        self.stack.callback(part.close)
        return part

    def build_parts(self, listeners: list[int], jail: Jail | None) -> MachineParts:
        """The bus is made after, and so goes before, what is attached to it."""
        events = self.own(MachineEvents())
        console = self.own(
            SerialConsole(self.vm, self.files.console_fd, self.config.console_limit_bytes)
        )
        power = self.own(PowerPorts(events))
        generation = self.own(Generation(self.vm, self.ram))
        pci = self.own(PciBus(self.vm, self.ram, events))
        shares = tuple(FsDevice(pci, share) for share in self.config.shares)
        vsock = Vsock(pci)
        vsock.listen(listeners, self.config.ports)
        pairs = count_pairs(self.config.vcpus)
        nics = tuple(Nic(pci, index, pairs) for index in range(self.config.nics))
        add_balloon(pci)
        bus = self.own(Bus())
        console.attach(bus)
        power.attach(bus)
        pci.attach(bus, self.window64)
        vcpus = [self.build_vcpu(index) for index in range(self.config.vcpus)]
        vcpu_set = self.own(VcpuSet(self.system, vcpus, bus, events))
        if jail is not None:
            jail.prepare()
            self.stack.callback(jail.abandon)
        return MachineParts(
            self.vm, self.ram, events, console, generation, pci, shares, vsock, nics, bus, vcpu_set
        )

    def prepare_saving(self) -> Saving | None:
        """What can be had of the host only until the jail is sealed."""
        if not self.config.saves:
            return None
        pagemap_fd = os.dup(self.files.pagemap_fd)
        self.stack.callback(os.close, pagemap_fd)
        return Saving(read_msr_numbers(self.system), read_xsave_bytes(self.system), pagemap_fd)

    def build_vcpu(self, index: int) -> Vcpu:
        vcpu = self.own(Vcpu(self.vm, index))
        topology = Topology(index, self.config.vcpus)
        vcpu.set_cpuid(
            build_cpuid(
                self.supported_cpuid,
                topology,
                tsc_deadline=self.system.read_capability("KVM_CAP_TSC_DEADLINE_TIMER") > 0,
            )
        )
        vcpu.set_msrs(BOOT_MSRS)
        return vcpu


def check_vcpus(vcpus: int, system: KvmSystem) -> None:
    limit = min(MAX_VCPUS, system.read_capability("KVM_CAP_MAX_VCPUS"))
    if not 1 <= vcpus <= limit:
        raise InvalidArgument(f"vcpus is {vcpus}: must be between 1 and {limit}")


def build_command_line(config: MachineConfig) -> str:
    """Ours first, so that the configuration's own arguments have the last word."""
    roots = [share.tag for share in config.shares if share.policy is SharePolicy.IMAGE]
    root = f"root={roots[0]} rootfstype=virtiofs ro init={GUEST_INIT}" if roots else ""
    return " ".join(filter(None, (COMMAND_LINE, root, config.kernel_arguments)))


def close_rest(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
