"""The state in which a vCPU enters a 64-bit kernel, and the CPUID it sees.

Pure: numbers in, numbers out; shim/vmm/kvm copies them into KVM's structs.
Spec: Linux Documentation/arch/x86/boot.rst (64-bit boot protocol), Intel SDM
vol. 2A CPUID and vol. 3A §3.4.5, AMD APM vol. 3 appendix E, Linux
Documentation/virt/kvm/x86/cpuid.rst.
"""

import struct
from typing import Final, NamedTuple

from shim.vmm.address_map import GDT_GPA, PAGE_TABLES_GPA, STACK_TOP_GPA, ZERO_PAGE_GPA, Gpa
from shim.vmm.boot.linux import Blob
from shim.vmm.kvm.state import CpuidEntry, EntryState, Segment

# --- GDT and page tables ---------------------------------------------------------------
CODE_SELECTOR: Final = 0x10  # __BOOT_CS
DATA_SELECTOR: Final = 0x18  # __BOOT_DS
TSS_SELECTOR: Final = 0x20
IDENTITY_MAPPED_BYTES: Final = 1 << 30
PAGE_PRESENT_WRITABLE: Final = 0x03
PAGE_LARGE: Final = 0x80
LARGE_PAGE_BYTES: Final = 2 << 20
TABLE_BYTES: Final = 4096
TABLE_ENTRIES: Final = 512

# --- control registers -------------------------------------------------------------------
CR0_BOOT: Final = 0x80000033  # PG, NE, ET, MP, PE
CR4_PAE: Final = 0x20
EFER_LME_LMA: Final = 0x500
RFLAGS_BOOT: Final = 0x2

# --- MSRs ----------------------------------------------------------------------------------
MSR_MISC_ENABLE: Final = 0x1A0
MISC_ENABLE_FAST_STRING: Final = 1
MSR_MTRR_DEF_TYPE: Final = 0x2FF
MTRR_ENABLE_WRITE_BACK: Final = 0x806
BOOT_MSRS: Final = (
    (MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
    # Without it Linux treats all memory as uncached.
    (MSR_MTRR_DEF_TYPE, MTRR_ENABLE_WRITE_BACK),
)


CODE_SEGMENT: Final = Segment(CODE_SELECTOR, 0, 0xFFFFFFFF, type=11, s=1, l=1, g=1, db=0)
DATA_SEGMENT: Final = Segment(DATA_SELECTOR, 0, 0xFFFFFFFF, type=3, s=1, l=0, g=1, db=1)
TSS_SEGMENT: Final = Segment(TSS_SELECTOR, 0, 0x67, type=11, s=0, l=0, g=0, db=0)
GDT_ENTRIES: Final = (0, 0, CODE_SEGMENT.encode(), DATA_SEGMENT.encode(), TSS_SEGMENT.encode(), 0)
GDT_BYTES: Final = len(GDT_ENTRIES) * 8


def build_gdt() -> Blob:
    return Blob(GDT_GPA, struct.pack(f"<{len(GDT_ENTRIES)}Q", *GDT_ENTRIES))


def build_page_tables() -> Blob:
    """Maps the first GiB onto itself with 2 MiB pages."""
    pdpt_gpa = PAGE_TABLES_GPA + TABLE_BYTES
    pd_gpa = pdpt_gpa + TABLE_BYTES
    tables = bytearray(3 * TABLE_BYTES)
    struct.pack_into("<Q", tables, 0, pdpt_gpa | PAGE_PRESENT_WRITABLE)
    struct.pack_into("<Q", tables, TABLE_BYTES, pd_gpa | PAGE_PRESENT_WRITABLE)
    leaves = (
        index * LARGE_PAGE_BYTES | PAGE_PRESENT_WRITABLE | PAGE_LARGE
        for index in range(TABLE_ENTRIES)
    )
    struct.pack_into(f"<{TABLE_ENTRIES}Q", tables, 2 * TABLE_BYTES, *leaves)
    return Blob(Gpa(PAGE_TABLES_GPA), bytes(tables))


def build_entry_state(entry_gpa: Gpa) -> EntryState:
    """rsi holds the zero page's address, the rest is as the 64-bit boot protocol says."""
    return EntryState(
        rip=entry_gpa,
        rsi=ZERO_PAGE_GPA,
        rsp=STACK_TOP_GPA,
        rflags=RFLAGS_BOOT,
        code=CODE_SEGMENT,
        data=DATA_SEGMENT,
        task=TSS_SEGMENT,
        gdt_base=GDT_GPA,
        gdt_bytes=GDT_BYTES,
        cr0=CR0_BOOT,
        cr3=PAGE_TABLES_GPA,
        cr4=CR4_PAE,
        efer=EFER_LME_LMA,
    )


# --- CPUID -----------------------------------------------------------------------------------
TOPOLOGY_LEAVES: Final = frozenset({0xB, 0x1F})
CPUID_SIGNIFICANT_INDEX: Final = 1

ECX_VMX: Final = 1 << 5
ECX_TSC_DEADLINE: Final = 1 << 24
ECX_HYPERVISOR: Final = 1 << 31
EDX_HTT: Final = 1 << 28
AMD_ECX_CMP_LEGACY: Final = 1 << 1
AMD_ECX_SVM: Final = 1 << 2
AMD_ECX_PERFCTR: Final = 1 << 23
LEVEL_SMT: Final = 1
LEVEL_CORE: Final = 2


class Topology(NamedTuple):
    """One socket of `vcpus` cores with one thread each; APIC ids from 0."""

    vcpu: int
    vcpus: int

    @property
    def id_bits(self) -> int:
        return (self.vcpus - 1).bit_length()


def build_cpuid(
    supported: tuple[CpuidEntry, ...], topology: Topology, *, tsc_deadline: bool
) -> tuple[CpuidEntry, ...]:
    """What KVM supports, with this vCPU's place in the topology filled in.

    Nested virtualisation and performance counters are left out: nothing in a
    container's machine uses them, and both widen what a guest can reach.
    """
    leaves = {entry.function for entry in supported}
    return (
        *(
            adapt_entry(entry, topology, tsc_deadline)
            for entry in supported
            if entry.function not in TOPOLOGY_LEAVES
        ),
        # KVM returns one empty subleaf for these, or the host's own numbers.
        *(
            entry
            for leaf in sorted(TOPOLOGY_LEAVES & leaves)
            for entry in build_topology(leaf, topology)
        ),
    )


def adapt_entry(entry: CpuidEntry, topology: Topology, tsc_deadline: bool) -> CpuidEntry:
    vcpu, count, bits = topology.vcpu, topology.vcpus, topology.id_bits
    eax, ebx, ecx, edx = entry.eax, entry.ebx, entry.ecx, entry.edx
    match entry.function:
        case 0x1:  # features, APIC id
            ebx = ebx & 0xFFFF | min(1 << bits, 255) << 16 | vcpu << 24
            ecx = set_bit(ecx & ~ECX_VMX | ECX_HYPERVISOR, ECX_TSC_DEADLINE, tsc_deadline)
            edx = set_bit(edx, EDX_HTT, count > 1)
        case 0x4:  # Intel caches
            eax = share_cache(eax, count) & 0x03FFFFFF | count - 1 << 26
        case 0xA | 0x8000000A | 0x80000022 | 0x80000026:  # counters, SVM, host's topology
            eax = ebx = ecx = edx = 0
        case 0x80000001:  # AMD features
            ecx = set_bit(ecx & ~(AMD_ECX_SVM | AMD_ECX_PERFCTR), AMD_ECX_CMP_LEGACY, count > 1)
        case 0x80000008:  # sizes: number of cores
            ecx = ecx & ~0xF0FF | count - 1 | bits << 12
        case 0x8000001D:  # AMD caches
            eax = share_cache(eax, count)
        case 0x8000001E:  # AMD APIC, core and node ids
            eax, ebx, ecx = vcpu, vcpu, 0
    return entry._replace(eax=eax, ebx=ebx, ecx=ecx, edx=edx)


def set_bit(register: int, bit: int, on: bool) -> int:
    return register | bit if on else register & ~bit


def share_cache(eax: int, count: int) -> int:
    """Bits 14-25: processors that share the cache, less one: level 3 all, others none."""
    level = eax >> 5 & 0x7
    sharing = count - 1 if level >= 3 else 0
    return eax & ~(0xFFF << 14) | sharing << 14


def build_topology(leaf: int, topology: Topology) -> tuple[CpuidEntry, ...]:
    """Subleaves thread, core, end; the shift to the next level in eax."""
    levels = ((0, 1, LEVEL_SMT), (topology.id_bits, topology.vcpus, LEVEL_CORE), (0, 0, 0))
    return tuple(
        CpuidEntry(
            leaf, index, CPUID_SIGNIFICANT_INDEX, shift, count, kind << 8 | index, topology.vcpu
        )
        for index, (shift, count, kind) in enumerate(levels)
    )
