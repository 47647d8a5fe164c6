"""One vCPU: its descriptor and its first state.  A thread of native's runs it.

Spec: Linux Documentation/virt/kvm/api.rst §4.11 to §4.19 (registers, MSRs, CPUID).
"""

import os
from collections.abc import Sequence
from typing import Any

from native.ffi import ffi
from shim.errors import HostResource
from shim.vmm.kvm.ioctl import kvm_ioctl
from shim.vmm.kvm.state import CpuidEntry, EntryState, Segment
from shim.vmm.kvm.vm import Vm


class Vcpu:
    """All but the first get no state: they wait for the guest's INIT and SIPI."""

    def __init__(self, vm: Vm, index: int) -> None:
        self.index = index
        self.fd = vm.create_vcpu(index)

    def set_cpuid(self, entries: Sequence[CpuidEntry]) -> None:
        table = ffi.new("struct kvm_cpuid2 *", {"entries": len(entries)})
        table.nent = len(entries)
        for place, entry in zip(table.entries, entries, strict=False):
            place.function, place.index, place.flags = entry.function, entry.subleaf, entry.flags
            place.eax, place.ebx, place.ecx, place.edx = entry.eax, entry.ebx, entry.ecx, entry.edx
        kvm_ioctl(self.fd, "KVM_SET_CPUID2", table)

    def set_msrs(self, values: Sequence[tuple[int, int]]) -> None:
        table = ffi.new("struct kvm_msrs *", {"entries": len(values)})
        table.nmsrs = len(values)
        for index, (number, value) in enumerate(values):
            table.entries[index].index = number
            table.entries[index].data = value
        done = kvm_ioctl(self.fd, "KVM_SET_MSRS", table)
        if done != len(values):
            raise HostResource(f"KVM_SET_MSRS: KVM refuses MSR {values[done][0]:#x}")

    def set_entry_state(self, state: EntryState) -> None:
        self.set_special_registers(state)
        registers = ffi.new("struct kvm_regs *")
        registers.rip = state.rip
        registers.rsi = state.rsi
        registers.rsp = state.rsp
        registers.rflags = state.rflags
        kvm_ioctl(self.fd, "KVM_SET_REGS", registers)

    def set_special_registers(self, state: EntryState) -> None:
        """Read, changed, written back: KVM's APIC base in them must stay."""
        special = ffi.new("struct kvm_sregs *")
        kvm_ioctl(self.fd, "KVM_GET_SREGS", special)
        fill_segment(special.cs, state.code)
        for segment in (special.ds, special.es, special.fs, special.gs, special.ss):
            fill_segment(segment, state.data)
        fill_segment(special.tr, state.task)
        special.gdt.base = state.gdt_base
        special.gdt.limit = state.gdt_bytes - 1
        special.idt.base = 0
        special.idt.limit = 0
        special.cr0 = state.cr0
        special.cr3 = state.cr3
        special.cr4 = state.cr4
        special.efer = state.efer
        kvm_ioctl(self.fd, "KVM_SET_SREGS", special)

    def read_tsc_khz(self) -> int:
        return kvm_ioctl(self.fd, "KVM_GET_TSC_KHZ")

    def set_tsc_khz(self, khz: int) -> None:
        """OSError if the processor cannot run at this rate."""
        kvm_ioctl(self.fd, "KVM_SET_TSC_KHZ", khz)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def fill_segment(place: Any, segment: Segment) -> None:
    place.base, place.limit, place.selector = segment.base, segment.limit, segment.selector
    place.type, place.s, place.l = segment.type, segment.s, segment.l
    place.g, place.db, place.present = segment.g, segment.db, 1
    place.dpl = place.avl = place.unusable = 0
