"""Reads the headers of an uncompressed ELF64 kernel (vmlinux).

Pure: bytes in, a list of segments out; the bytes themselves never pass through
Python.  The file is the user's choice and may be anything: every number in it
is bounded here, and every refusal names the file and the field.
Spec: System V ABI, ELF-64 object file format.
"""

import struct
from itertools import pairwise
from typing import Final, NamedTuple

from shim.errors import HostResource
from shim.vmm.address_map import KERNEL_MIN_GPA, Gpa

HEADER_BYTES: Final = 4096
"""How much of the file's start `parse_kernel` needs."""
MAX_SEGMENTS: Final = 32
EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR: Final = struct.Struct("<IIQQQQQQ")
ELF_MAGIC: Final = b"\x7fELF"
ELFCLASS64: Final = 2
ELFDATA2LSB: Final = 1
ET_EXEC: Final = 2
ET_DYN: Final = 3
EM_X86_64: Final = 62
PT_LOAD: Final = 1
ADDRESS_LIMIT: Final = 1 << 40
"""No sum of two numbers below this wraps, nor is it a sensible place for a kernel."""


class Segment(NamedTuple):
    """`file_bytes` at `file_offset` go to `gpa`; zeros follow up to `memory_bytes`."""

    file_offset: int
    file_bytes: int
    gpa: Gpa
    memory_bytes: int


class Kernel(NamedTuple):
    entry_gpa: Gpa
    segments: tuple[Segment, ...]

    @property
    def end_gpa(self) -> int:
        return max(segment.gpa + segment.memory_bytes for segment in self.segments)


def parse_kernel(header: bytes, file_bytes: int, path: str) -> Kernel:
    """`header`: the first HEADER_BYTES of the file, or all of a shorter one."""
    check_identification(header, path)
    fields = EHDR.unpack_from(header)
    kind, machine, entry = fields[1], fields[2], fields[4]
    table_offset, entry_size, count = fields[5], fields[9], fields[10]
    require(kind in (ET_EXEC, ET_DYN), path, "e_type", kind)
    require(machine == EM_X86_64, path, "e_machine", machine)
    require(entry_size == PHDR.size, path, "e_phentsize", entry_size)
    require(1 <= count <= MAX_SEGMENTS, path, "e_phnum", count)
    require(table_offset + count * PHDR.size <= len(header), path, "e_phoff", table_offset)
    segments = tuple(
        parse_segment(fields, index, file_bytes, path)
        for index, fields in enumerate(
            PHDR.iter_unpack(header[table_offset : table_offset + count * PHDR.size])
        )
        if fields[0] == PT_LOAD
    )
    check_overlap(segments, path)
    inside = any(s.gpa <= entry < s.gpa + s.file_bytes for s in segments)
    require(inside, path, "e_entry", entry)
    return Kernel(Gpa(entry), segments)


def check_identification(header: bytes, path: str) -> None:
    if header[0x202:0x206] == b"HdrS":
        raise HostResource(f"kernel {path}: a compressed bzImage; an ELF vmlinux is needed")
    if header[:4] != ELF_MAGIC:
        raise HostResource(f"kernel {path}: no ELF file (it starts with {header[:4].hex()!r})")
    if len(header) < EHDR.size:
        raise HostResource(f"kernel {path}: cut off after {len(header)} bytes")
    require(header[4] == ELFCLASS64, path, "EI_CLASS", header[4])
    require(header[5] == ELFDATA2LSB, path, "EI_DATA", header[5])


def parse_segment(fields: tuple[int, ...], index: int, file_size: int, path: str) -> Segment:
    _, _, offset, _, gpa, file_bytes, memory_bytes, _ = fields
    where = f"segment {index}: "
    require(file_bytes <= memory_bytes, path, where + "p_filesz", file_bytes)
    require(memory_bytes < ADDRESS_LIMIT, path, where + "p_memsz", memory_bytes)
    require(KERNEL_MIN_GPA <= gpa < ADDRESS_LIMIT, path, where + "p_paddr", gpa)
    if offset + file_bytes > file_size:
        raise HostResource(
            f"kernel {path}: cut off: segment {index} ends at byte "
            f"{offset + file_bytes}, the file has {file_size}"
        )
    return Segment(offset, file_bytes, Gpa(gpa), memory_bytes)


def check_overlap(segments: tuple[Segment, ...], path: str) -> None:
    if not segments:
        raise HostResource(f"kernel {path}: no segment to load")
    ordered = sorted(segments, key=lambda segment: segment.gpa)
    for before, after in pairwise(ordered):
        fits = before.gpa + before.memory_bytes <= after.gpa
        require(fits, path, "p_paddr of overlapping segments", after.gpa)


def require(holds: bool, path: str, field: str, value: int) -> None:
    if not holds:
        raise HostResource(f"kernel {path}: {field} is {value:#x}: not a bootable x86-64 vmlinux")
