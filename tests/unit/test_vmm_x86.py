"""GDT, page tables and CPUID as a processor decodes them."""

import struct

import pytest

from shim.vmm.address_map import PAGE_TABLES_GPA
from shim.vmm.boot import x86
from shim.vmm.boot.x86 import Topology, build_cpuid
from shim.vmm.kvm.state import CpuidEntry


def make_entry(function: int, index: int = 0, **registers: int) -> CpuidEntry:
    return CpuidEntry(
        function, index, 0, *(registers.get(name, 0) for name in ("eax", "ebx", "ecx", "edx"))
    )


def adapt(entry: CpuidEntry, vcpu: int = 0, count: int = 1) -> CpuidEntry:
    (adapted,) = build_cpuid((entry,), Topology(vcpu, count), tsc_deadline=True)
    return adapted


def test_the_segment_descriptors_are_flat_and_64_bit() -> None:
    """Intel SDM vol. 3A §3.4.5: the known encodings of flat code and data."""
    assert x86.CODE_SEGMENT.encode() == 0x00AF9B000000FFFF
    assert x86.DATA_SEGMENT.encode() == 0x00CF93000000FFFF


def test_the_selectors_are_those_of_the_boot_protocol() -> None:
    entries = struct.unpack("<6Q", x86.build_gdt().data)
    assert entries[0x10 // 8] == x86.CODE_SEGMENT.encode()
    assert entries[0x18 // 8] == x86.DATA_SEGMENT.encode()


@pytest.mark.parametrize("address", [0, 0x7000, 0x1000000, (1 << 30) - 1])
def test_the_page_tables_map_the_first_gib_onto_itself(address: int) -> None:
    tables = x86.build_page_tables()

    def read_entry(table_gpa: int, index: int) -> int:
        return struct.unpack_from("<Q", tables.data, table_gpa - tables.gpa + index * 8)[0]

    pdpt = read_entry(PAGE_TABLES_GPA, address >> 39) & ~0xFFF
    pd = read_entry(pdpt, address >> 30) & ~0xFFF
    leaf = read_entry(pd, address >> 21 & 511)
    assert leaf & 0x83 == 0x83
    assert (leaf & ~0x1FFFFF) + (address & 0x1FFFFF) == address


@pytest.mark.parametrize(("vcpu", "count"), [(0, 1), (1, 2), (2, 3), (63, 64)])
def test_a_vcpu_sees_its_own_apic_id_everywhere(vcpu: int, count: int) -> None:
    assert adapt(make_entry(1), vcpu, count).ebx >> 24 == vcpu
    assert adapt(make_entry(0x8000001E), vcpu, count).eax == vcpu
    leaves = build_cpuid((make_entry(0xB),), Topology(vcpu, count), tsc_deadline=True)
    assert [leaf.edx for leaf in leaves] == [vcpu] * 3


def test_topology_leaves_are_thread_core_end_whatever_kvm_answered() -> None:
    """Intel SDM vol. 2A CPUID leaf 0BH; the shift must cover every APIC id."""
    supported = tuple(make_entry(0xB, index, eax=7, ebx=9) for index in range(4))
    leaves = build_cpuid(supported, Topology(1, 3), tsc_deadline=True)
    assert [(leaf.subleaf, leaf.eax, leaf.ebx, leaf.ecx) for leaf in leaves] == [
        (0, 0, 1, 0x100),
        (1, 2, 3, 0x201),
        (2, 0, 0, 2),
    ]
    assert all(leaf.flags == x86.CPUID_SIGNIFICANT_INDEX for leaf in leaves)


def test_leaves_kvm_does_not_know_are_not_invented() -> None:
    assert build_cpuid((make_entry(1),), Topology(0, 2), tsc_deadline=True)[0].function == 1


def test_the_guest_knows_that_it_is_one() -> None:
    assert adapt(make_entry(1)).ecx & x86.ECX_HYPERVISOR


@pytest.mark.parametrize("offered", [True, False])
def test_the_tsc_deadline_timer_is_shown_exactly_when_kvm_has_it(offered: bool) -> None:
    for ecx in (0, 0xFFFFFFFF):
        (entry,) = build_cpuid((make_entry(1, ecx=ecx),), Topology(0, 1), tsc_deadline=offered)
        assert bool(entry.ecx & x86.ECX_TSC_DEADLINE) is offered


def test_no_nested_virtualisation_and_no_performance_counters() -> None:
    ones = {"eax": 2**32 - 1, "ebx": 2**32 - 1, "ecx": 2**32 - 1, "edx": 2**32 - 1}
    assert not adapt(make_entry(1, **ones)).ecx & x86.ECX_VMX
    assert not adapt(make_entry(0x80000001, **ones)).ecx & (x86.AMD_ECX_SVM | x86.AMD_ECX_PERFCTR)
    for leaf in (0xA, 0x8000000A, 0x80000022):
        assert adapt(make_entry(leaf, **ones)) == make_entry(leaf)


def test_one_processor_alone_has_no_siblings() -> None:
    assert not adapt(make_entry(1, edx=x86.EDX_HTT)).edx & x86.EDX_HTT
    assert adapt(make_entry(4, eax=0xFFFFC000 | 3 << 5)).eax == 3 << 5


def test_the_last_level_cache_is_shared_and_the_others_are_not() -> None:
    for leaf in (4, 0x8000001D):
        assert adapt(make_entry(leaf, eax=1 << 5), 0, 4).eax >> 14 & 0xFFF == 0
        assert adapt(make_entry(leaf, eax=3 << 5), 0, 4).eax >> 14 & 0xFFF == 3


def test_kvm_leaves_pass_unchanged() -> None:
    leaf = make_entry(0x40000001, eax=0x01007EFB)
    assert adapt(leaf) == leaf
