"""The working set: guest pages that a clone touches, found once, mapped early in others.

Found in the page tables of a trial clone's vmm: a page of the memory file that the
guest has written to is this process's own.
Spec: Linux Documentation/admin-guide/mm/pagemap.rst, userfaultfd.rst;
Documentation/virt/kvm/api.rst §4.143 (KVM_PRE_FAULT_MEMORY).
"""

import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import groupby
from struct import Struct
from typing import Final, NamedTuple

from native.ffi import check, ffi, lib
from shim.vmm.address_map import PAGE_BYTES
from shim.vmm.kvm.memory import GuestRam

ENTRY_BYTES: Final = 8
PRESENT: Final = 1 << 63
OF_A_FILE: Final = 1 << 61
"""Set for a page of a file, or a shared one: it is unchanged."""
RANGE: Final = Struct("=QQQ")
"""struct prefault_range of native/src/kvm/prefault.h."""


class TouchedPages(NamedTuple):
    """Adjacent pages."""

    gpa: int
    length: int
    written: bool


class PageWatch:
    """While it is open, `find_working_set` finds exactly the pages that were touched.

    Without it, and with a host's kernel before 6.7, the result also has the pages around
    each one, which fault-around has mapped needlessly.
    """

    def __init__(self, ram: GuestRam) -> None:
        self.fd = lib.guest_memory_disable_fault_around(ram.table)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def find_working_set(ram: GuestRam, pagemap_fd: int) -> Iterator[TouchedPages]:
    """Hazard: the pages must still be in memory; with swapping the result is smaller.

    `pagemap_fd`: /proc/self/pagemap."""
    for area, hva in ram.regions:
        entries = array("Q")
        position = int(ffi.cast("uintptr_t", hva)) // PAGE_BYTES * ENTRY_BYTES
        entries.frombytes(os.pread(pagemap_fd, area.length // PAGE_BYTES * ENTRY_BYTES, position))
        yield from group_pages(area.gpa, map(classify, entries))


def classify(entry: int) -> bool | None:
    """Whether the page was written; None for one that is not present."""
    return not entry & OF_A_FILE if entry & PRESENT else None


def group_pages(gpa: int, pages: Iterable[bool | None]) -> Iterator[TouchedPages]:
    for written, alike in groupby(pages):
        length = sum(PAGE_BYTES for _ in alike)
        if written is not None:
            yield TouchedPages(gpa, length, written)
        gpa += length


def pack_working_set(touched: Iterable[TouchedPages]) -> bytes:
    """As `prefault` takes them: an array of struct prefault_range."""
    return b"".join(RANGE.pack(*page) for page in touched)


def prefault(ram: GuestRam, vcpu_fd: int, packed: bytes) -> None:
    """Before the vCPU runs.  `packed`: from `pack_working_set`."""
    ranges = ffi.from_buffer("struct prefault_range[]", packed)
    result = lib.guest_memory_prefault(
        ffi.addressof(lib, "kvm_calls"), ram.table, vcpu_fd, ranges, len(packed) // RANGE.size
    )
    check(result, "guest_memory_prefault")
