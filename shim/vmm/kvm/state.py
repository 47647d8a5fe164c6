"""What a vCPU is given before it runs, as plain numbers.

Pure: `boot` builds these, `vcpu` copies them into KVM's structs.
"""

from typing import NamedTuple


class CpuidEntry(NamedTuple):
    """One struct kvm_cpuid_entry2; its `index` is a tuple's method here."""

    function: int
    subleaf: int
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int


class Segment(NamedTuple):
    """A present segment of privilege level 0, in the fields of struct kvm_segment."""

    selector: int
    base: int
    limit: int
    type: int
    s: int
    l: int  # noqa: E741  (the architecture's name)
    g: int
    db: int

    def encode(self) -> int:
        """The descriptor in a GDT (Intel SDM vol. 3A §3.4.5)."""
        limit = self.limit >> 12 if self.g else self.limit
        access = self.type | self.s << 4 | 1 << 7
        flags = self.l << 1 | self.db << 2 | self.g << 3
        return (
            (limit & 0xFFFF)
            | (self.base & 0xFFFFFF) << 16
            | access << 40
            | (limit >> 16 & 0xF) << 48
            | flags << 52
            | (self.base >> 24 & 0xFF) << 56
        )


class EntryState(NamedTuple):
    """The registers of the boot vCPU; those not named are 0."""

    rip: int
    rsi: int
    rsp: int
    rflags: int
    code: Segment
    data: Segment
    task: Segment
    gdt_base: int
    gdt_bytes: int
    cr0: int
    cr3: int
    cr4: int
    efer: int
