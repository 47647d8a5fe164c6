"""What Linux expects to find in memory: zero page, memory map, command line, seed.

Pure: builds bytes for fixed addresses.
Spec: Linux Documentation/arch/x86/boot.rst (boot protocol 2.15, 64-bit entry),
zero-page.rst; struct boot_params of asm/bootparam.h.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from shim.errors import InvalidArgument
from shim.vmm.address_map import (
    ACPI_BYTES,
    ACPI_GPA,
    COMMAND_LINE_GPA,
    ECAM_BYTES,
    ECAM_GPA,
    KERNEL_MIN_GPA,
    LOW_RAM_END_GPA,
    PAGE_BYTES,
    SETUP_DATA_GPA,
    ZERO_PAGE_GPA,
    Gpa,
    Range,
)

MAX_COMMAND_LINE_BYTES: Final = 2047
"""COMMAND_LINE_SIZE of x86 less the NUL: Linux would cut off the rest silently."""

# Offsets in struct boot_params; those from 0x1f1 on are its setup_header.
ACPI_RSDP_ADDR: Final = 0x070
E820_ENTRIES: Final = 0x1E8
BOOT_FLAG: Final = 0x1FE
HEADER_MAGIC: Final = 0x202
PROTOCOL_VERSION: Final = 0x206
LOADER_TYPE: Final = 0x210
LOAD_FLAGS: Final = 0x211
CMD_LINE_PTR: Final = 0x228
KERNEL_ALIGNMENT: Final = 0x230
CMDLINE_SIZE: Final = 0x238
SETUP_DATA: Final = 0x250
E820_TABLE: Final = 0x2D0

LOADER_UNDEFINED: Final = 0xFF
LOADED_HIGH: Final = 0x01
KERNEL_ALIGNMENT_BYTES: Final = 0x200000

E820_ENTRY: Final = struct.Struct("<QQI")
E820_RAM: Final = 1
E820_RESERVED: Final = 2
E820_ACPI: Final = 3

SETUP_DATA_HEADER: Final = struct.Struct("<QII")
SETUP_RNG_SEED: Final = 9


class Blob(NamedTuple):
    """Bytes for the guest's memory."""

    gpa: Gpa
    data: bytes


def build_boot_data(
    ram: Sequence[Range], command_line: str, rsdp_gpa: Gpa, rng_seed: bytes
) -> tuple[Blob, ...]:
    """Zero page, command line and seed, ready to be copied into memory."""
    encoded = encode_command_line(command_line)
    seed = SETUP_DATA_HEADER.pack(0, SETUP_RNG_SEED, len(rng_seed)) + rng_seed
    return (
        Blob(ZERO_PAGE_GPA, build_zero_page(ram, len(encoded) - 1, rsdp_gpa)),
        Blob(COMMAND_LINE_GPA, encoded),
        Blob(SETUP_DATA_GPA, seed),
    )


def encode_command_line(text: str) -> bytes:
    try:
        encoded = text.encode("ascii")
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"kernel_arguments: not ASCII: {error.object!r}") from error
    if b"\0" in encoded or b"\n" in encoded:
        raise InvalidArgument(f"kernel_arguments: holds a NUL or a line end: {text!r}")
    if len(encoded) > MAX_COMMAND_LINE_BYTES:
        raise InvalidArgument(
            f"kernel_arguments: the command line has {len(encoded)} bytes, "
            f"the kernel takes {MAX_COMMAND_LINE_BYTES}"
        )
    return encoded + b"\0"


def build_zero_page(ram: Sequence[Range], command_line_bytes: int, rsdp_gpa: Gpa) -> bytes:
    page = bytearray(PAGE_BYTES)

    def put(offset: int, layout: str, value: int) -> None:
        struct.pack_into(layout, page, offset, value)

    entries = list(build_memory_map(ram))
    put(ACPI_RSDP_ADDR, "<Q", rsdp_gpa)
    put(E820_ENTRIES, "<B", len(entries))
    put(BOOT_FLAG, "<H", 0xAA55)
    page[HEADER_MAGIC : HEADER_MAGIC + 4] = b"HdrS"
    put(PROTOCOL_VERSION, "<H", 0x020F)
    put(LOADER_TYPE, "<B", LOADER_UNDEFINED)
    put(LOAD_FLAGS, "<B", LOADED_HIGH)
    put(CMD_LINE_PTR, "<I", COMMAND_LINE_GPA)
    put(KERNEL_ALIGNMENT, "<I", KERNEL_ALIGNMENT_BYTES)
    put(CMDLINE_SIZE, "<I", command_line_bytes)
    put(SETUP_DATA, "<Q", SETUP_DATA_GPA)
    for index, (area, kind) in enumerate(entries):
        offset = E820_TABLE + index * E820_ENTRY.size
        E820_ENTRY.pack_into(page, offset, area.gpa, area.length, kind)
    return bytes(page)


def build_memory_map(ram: Sequence[Range]) -> Iterable[tuple[Range, int]]:
    """RAM less the legacy hole, the ACPI tables, and the ECAM window.

    Linux uses an ECAM window only where the memory map or an ACPI device
    declares it reserved.
    """
    low, *high = ram
    yield Range(Gpa(0), LOW_RAM_END_GPA), E820_RAM
    yield Range(ACPI_GPA, ACPI_BYTES), E820_ACPI
    yield Range(KERNEL_MIN_GPA, low.end - KERNEL_MIN_GPA), E820_RAM
    yield Range(ECAM_GPA, ECAM_BYTES), E820_RESERVED
    for area in high:
        yield area, E820_RAM
