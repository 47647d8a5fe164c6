"""The only place where a machine is built.

Sets everything up in order on one ExitStack, so that teardown is the same order
reversed: vCPUs stop, devices end their threads, the VM is closed, then its memory.
Knows how the parts fit, not how any of them works.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Final, Protocol, TypeVar

from proto.contract import GUEST_INIT
from proto.control import MachineConfig, SharePolicy, count_pairs
from shim.errors import InvalidArgument
from shim.vmm.address_map import Range, place_window64, plan_ram
from shim.vmm.boot.x86 import BOOT_MSRS, Topology, build_cpuid, build_entry_state
from shim.vmm.devices.balloon import Balloon
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
from shim.vmm.kvm.part import Part
from shim.vmm.kvm.system import KvmSystem
from shim.vmm.kvm.tsc import TscRate
from shim.vmm.kvm.vcpu import Vcpu
from shim.vmm.kvm.vcpus import VcpuSet
from shim.vmm.kvm.vm import Vm
from shim.vmm.kvm.vm_state import VmState
from shim.vmm.kvm.working_set import PageWatch, prefault
from shim.vmm.loader import load_boot_data
from shim.vmm.machine import Machine
from shim.vmm.stopwatch import Stopwatch

MAX_VCPUS: Final = 254
"""APIC ids are bytes here; one is for broadcasts, one is reserved for the IO-APIC."""
COMMAND_LINE: Final = (
    "console=ttyS0 quiet panic=-1 reboot=a "
    "tsc=reliable no_timer_check random.trust_cpu=on 8250.nr_uarts=1 swiotlb=noforce"
)
"""No bounce buffers: our devices reach all memory, and above 3 GiB they would be 64 MiB."""


class Closable(Protocol):
    def close(self) -> None: ...


Owned = TypeVar("Owned", bound=Closable)


def boot_machine(
    config: MachineConfig,
    listeners: list[int],
    files: HostFiles,
    jail: Jail | None,
    watch: Stopwatch,
) -> Machine:
    """A machine that its `start` boots.  Takes `listeners` over.  On failure nothing of the
    machine is left.  `jail`: where its threads wait for the restriction."""
    with ExitStack() as stack:
        stack.callback(close_rest, listeners)
        ram_plan = plan_ram(config.memory_bytes)
        check_vcpus(config.vcpus, files.system)
        watch.lap("checks")
        builder = Builder(stack, config, files, ram_plan)
        watch.lap("vm")
        machine = builder.build(listeners, jail)
        entry_gpa = files.kernel.kernel.entry_gpa
        machine.vcpus.members[0].set_entry_state(build_entry_state(entry_gpa))
        watch.lap("parts")
        files.kernel.load(machine.ram)
        watch.lap("kernel")
        load_boot_data(machine.ram, ram_plan, config.vcpus, build_command_line(config))
        machine.begin()
        watch.lap("boot_data")
        machine.stack = stack.pop_all()
        return machine


def clone_machine(
    config: MachineConfig,
    listeners: list[int],
    files: HostFiles,
    jail: Jail | None,
    watch: Stopwatch,
) -> Machine:
    """As boot_machine, a machine that is restored from `config.template`."""
    with ExitStack() as stack:
        stack.callback(close_rest, listeners)
        if files.snapshot is None:
            raise files.refusal or InvalidArgument("template: expected a path, is ''")
        snapshot = files.snapshot
        ram_plan = plan_ram(config.memory_bytes)
        check_vcpus(config.vcpus, files.system)
        watch.lap("checks")
        builder = Builder(stack, config, files, ram_plan)
        watch.lap("vm")
        machine = builder.build(listeners, jail)
        watch.lap("parts")
        snapshot.map(machine.ram)
        watch.lap("memory")
        machine.restore(snapshot.state)
        machine.begin()
        watch.lap("state")
        if snapshot.working_set is None:
            builder.own(PageWatch(machine.ram))
        else:
            prefault(machine.ram, machine.vcpus.members[0].fd, snapshot.working_set)
        watch.lap("prefault")
        machine.stack = stack.pop_all()
        return machine


class Builder:
    """One machine under construction; every part goes on the stack as soon as it exists."""

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

    def own(self, part: Owned) -> Owned:
        self.stack.callback(part.close)
        return part

    def build(self, listeners: list[int], jail: Jail | None) -> Machine:
        """The bus is made after, and so closed before, what is attached to it."""
        config = self.config
        events = self.own(MachineEvents())
        console_fd, limit_bytes = self.files.console_fd, config.console_limit_bytes
        console = self.own(SerialConsole(self.vm, console_fd, limit_bytes))
        power = self.own(PowerPorts(events))
        generation = self.own(Generation(self.vm, self.ram))
        pci = self.own(PciBus(self.vm, self.ram, events, self.window64))
        devices = [self.own(device) for device in self.build_devices(pci, listeners)]
        bus = self.own(Bus())
        vcpus = [self.build_vcpu(index) for index in range(config.vcpus)]
        vcpu_set = self.own(VcpuSet(self.system, vcpus, bus, events, config.saves))
        tsc = TscRate(vcpus, self.system.read_capability("KVM_CAP_TSC_CONTROL") > 0)
        # In the order of restoring: clocks and interrupt controllers, the vCPUs, the parts
        # that these access; PCI last, which starts the devices.
        parts = (tsc, VmState(self.vm), vcpu_set, events, console, power, generation, *devices, pci)
        for part in parts:
            part.attach(bus)
        if jail is not None:
            jail.prepare()
            self.stack.callback(jail.release)
        return Machine(self.ram, bus, parts, self.keep_pagemap())

    def keep_pagemap(self) -> int:
        """Opened now: it cannot be once the threads are restricted."""
        if not self.config.saves:
            return -1
        pagemap_fd = os.dup(self.files.pagemap_fd)
        self.stack.callback(os.close, pagemap_fd)
        return pagemap_fd

    def build_devices(self, pci: PciBus, listeners: list[int]) -> Iterator[Part]:
        """In the order of their slots."""
        config = self.config
        yield from (FsDevice(pci, share) for share in config.shares)
        yield Vsock(pci, listeners, config.ports)
        pairs = count_pairs(config.vcpus)
        yield from (Nic(pci, index, pairs) for index in range(config.nics))
        yield Balloon(pci)

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
    """Ours first, so that the configuration's own arguments override them."""
    roots = [share.tag for share in config.shares if share.policy is SharePolicy.IMAGE]
    root = f"root={roots[0]} rootfstype=virtiofs ro init={GUEST_INIT}" if roots else ""
    return " ".join(filter(None, (COMMAND_LINE, root, config.kernel_arguments)))


def close_rest(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
