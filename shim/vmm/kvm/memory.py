"""Guest RAM: private anonymous memory of this process, filled straight from files.

Owns the mappings and native's table of them; `vm` owns KVM's slots over them.
Never MAP_SHARED, so that clones can share the pages that they have not changed.
Untouched memory costs nothing.
"""

import errno
from collections.abc import Iterable
from typing import NamedTuple

from native.ffi import Pointer, check, ffi, lib
from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import PAGE_BYTES, Gpa, Range


class MappedFile(NamedTuple):
    """A part of a file in guest memory: as mapped, until the guest or this process changes it."""

    area: Range
    path: str
    offset: int


class GuestRam:
    """Close it after everything that holds an address of it: vCPUs, devices, the VM."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        self.table: Pointer = ffi.new("struct guest_memory *")
        self.regions: list[tuple[Range, Pointer]] = []
        self.mapped: list[MappedFile] = []
        try:
            for area in ranges:
                self.add_region(area)
        except BaseException:
            self.close()
            raise

    def add_region(self, area: Range) -> None:
        hva = ffi.new("void **")
        try:
            check(lib.guest_memory_map(area.length, hva), "mmap")
        except OSError as error:
            raise HostResource(
                f"no {area.length} bytes of guest memory: {error.strerror}"
            ) from error
        self.regions.append((area, hva[0]))
        check(lib.guest_memory_add(self.table, area.gpa, area.length, hva[0]), "guest_memory_add")

    def write(self, gpa: Gpa, data: bytes) -> None:
        self.check_place(
            lib.guest_memory_write(self.table, gpa, data, len(data)), gpa, len(data), ""
        )

    def load(self, gpa: Gpa, fd: int, offset: int, length: int, path: str) -> None:
        """Copies part of a file; its bytes do not pass through Python."""
        if length > 0:
            result = lib.guest_memory_load(self.table, gpa, fd, offset, length)
            self.check_place(result, gpa, length, path)

    def map(self, gpa: Gpa, fd: int, offset: int, length: int, path: str) -> None:
        """As `load`, but pages that the guest does not change stay in the page cache, once
        for all machines.  Hazard: a file truncated later ends this process (SIGBUS)."""
        whole = 0 if (gpa | offset) % PAGE_BYTES else length - length % PAGE_BYTES
        if whole > 0:
            result = lib.guest_memory_map_file(self.table, gpa, fd, offset, whole)
            self.check_place(result, gpa, whole, path)
            self.mapped.append(MappedFile(Range(gpa, whole), path, offset))
        self.load(Gpa(gpa + whole), fd, offset + whole, length - whole, path)

    def check_place(self, result: int, gpa: Gpa, length: int, path: str) -> None:
        match -result:
            case errno.EFAULT:
                self.require_place(gpa, length)
            case errno.ENODATA:
                raise HostResource(f"{path}: cut off while it was read")
        check(result, path or "guest_memory_write")

    def require_place(self, gpa: Gpa, length: int) -> None:
        if not any(area.gpa <= gpa and gpa + length <= area.end for area, _ in self.regions):
            total = sum(area.length for area, _ in self.regions)
            raise InvalidArgument(f"memory_bytes is {total}: no room for {length} at {gpa:#x}")

    def close(self) -> None:
        self.table.count = 0
        while self.regions:
            area, hva = self.regions.pop()
            check(lib.guest_memory_unmap(hva, area.length), "munmap")
