"""Guest RAM as a file: runs of pages that are not zero, and their addresses.

The file is mapped by every clone and never changed once it is written.  Pages that
are still as in the kernel's file are not copied: clones map that file.
Spec: Linux Documentation/admin-guide/mm/pagemap.rst.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from native.ffi import Pointer, ffi
from shim.vmm.address_map import PAGE_BYTES, Gpa, Range
from shim.vmm.kvm.memory import GuestRam, MappedFile

Files = Mapping[str, int]
"""Open files by their paths."""
CHUNK_BYTES: Final = 64 << 10
"""What is written or skipped as one.  Smaller chunks: a smaller file, more mappings."""
ENTRY_BYTES: Final = 8
PRESENT_OR_SWAPPED: Final = 0xC0
"""In the highest byte of an entry of /proc/self/pagemap."""


class Run(NamedTuple):
    """Pages that are adjacent, in the guest and in a file."""

    gpa: int
    offset: int
    length: int
    path: str = ""
    """"" is the memory file; else the kernel's file, for pages that nobody has changed."""


def save_memory(ram: GuestRam, fd: int, pagemap_fd: int) -> list[Run]:
    """Writes to `fd` from its beginning.  The guest must not run.

    `pagemap_fd`: /proc/self/pagemap."""
    runs = []
    offset = 0
    for area, hva in ram.regions:
        for run in merge(find_data(area, hva, ram.mapped, pagemap_fd)):
            if run.path:
                runs.append(run)
                continue
            write_all(fd, ffi.cast("uint8_t *", hva) + (run.gpa - area.gpa), run.length, offset)
            runs.append(run._replace(offset=offset))
            offset += run.length
    return runs


def map_memory(ram: GuestRam, runs: Iterable[Run], memory_path: str, files: Files) -> None:
    """As private mappings: a page is copied when the guest first writes to it."""
    for run in runs:
        path = run.path or memory_path
        ram.map(Gpa(run.gpa), files[path], run.offset, run.length, path)


def find_data(
    area: Range, hva: Pointer, mapped: list[MappedFile], pagemap_fd: int
) -> Iterator[Run]:
    """Chunks that are not all zeros; does not touch memory that was never touched."""
    zeros = bytes(CHUNK_BYTES)
    base = ffi.cast("uint8_t *", hva)
    first_page = int(ffi.cast("uintptr_t", hva)) // PAGE_BYTES
    for start in range(0, area.length, CHUNK_BYTES):
        length = min(CHUNK_BYTES, area.length - start)
        gpa = area.gpa + start
        position = (first_page + start // PAGE_BYTES) * ENTRY_BYTES
        entries = os.pread(pagemap_fd, length // PAGE_BYTES * ENTRY_BYTES, position)
        touched = any(byte & PRESENT_OR_SWAPPED for byte in entries[7::ENTRY_BYTES])
        if not touched and (run := find_mapped(mapped, gpa, length)):
            yield run
        elif (touched or overlaps(mapped, gpa, length)) and (
            ffi.buffer(base + start, length)[:] != zeros[:length]
        ):
            yield Run(gpa, 0, length)


def find_mapped(mapped: Iterable[MappedFile], gpa: int, length: int) -> Run | None:
    """The part of a file that is mapped there, if it covers all of these pages."""
    for area, path, offset in mapped:
        if area.gpa <= gpa and gpa + length <= area.end:
            return Run(gpa, offset + gpa - area.gpa, length, path)
    return None


def overlaps(mapped: Iterable[MappedFile], gpa: int, length: int) -> bool:
    return any(gpa < area.end and area.gpa < gpa + length for area, _, _ in mapped)


def merge(runs: Iterable[Run]) -> Iterator[Run]:
    last: Run | None = None
    for run in runs:
        if last is not None and follows(last, run):
            last = last._replace(length=last.length + run.length)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def follows(last: Run, run: Run) -> bool:
    in_file = not run.path or last.offset + last.length == run.offset
    return last.gpa + last.length == run.gpa and last.path == run.path and in_file


def write_all(fd: int, data: Pointer, length: int, offset: int) -> None:
    done = 0
    while done < length:
        done += os.pwrite(fd, ffi.buffer(data + done, length - done), offset + done)
