"""Zero page, memory map and command line, read back as Linux reads them."""

import struct
from itertools import pairwise

import pytest

from shim.errors import InvalidArgument
from shim.vmm.address_map import (
    ACPI_GPA,
    COMMAND_LINE_GPA,
    ECAM_BYTES,
    ECAM_GPA,
    GIB,
    HIGH_RAM_GPA,
    MAX_MEMORY_BYTES,
    MIB,
    PCI_WINDOW_GPA,
    SETUP_DATA_GPA,
    ZERO_PAGE_GPA,
    Gpa,
    Range,
    place_window64,
    plan_ram,
)
from shim.vmm.boot import linux

SEED = bytes(range(32))


def build(memory_bytes: int, command_line: str = "quiet") -> dict[int, bytes]:
    blobs = linux.build_boot_data(plan_ram(memory_bytes), command_line, ACPI_GPA, SEED)
    return {blob.gpa: blob.data for blob in blobs}


def read_map(zero_page: bytes) -> list[tuple[int, int, int]]:
    count = zero_page[linux.E820_ENTRIES]
    table = zero_page[linux.E820_TABLE :][: count * linux.E820_ENTRY.size]
    return list(linux.E820_ENTRY.iter_unpack(table))


@pytest.mark.parametrize("memory_bytes", [64 * MIB, 3 * GIB, 3 * GIB + 4096, MAX_MEMORY_BYTES])
def test_the_memory_map_is_ordered_and_without_overlap(memory_bytes: int) -> None:
    entries = read_map(build(memory_bytes)[ZERO_PAGE_GPA])
    ends = [start + length for start, length, _ in entries]
    assert all(length > 0 for _, length, _ in entries)
    assert all(start >= end for (start, _, _), end in zip(entries[1:], ends, strict=False))


@pytest.mark.parametrize("memory_bytes", [64 * MIB, 3 * GIB, 5 * GIB])
def test_nothing_but_the_legacy_hole_is_lost_of_the_memory(memory_bytes: int) -> None:
    entries = read_map(build(memory_bytes)[ZERO_PAGE_GPA])
    usable = sum(length for _, length, kind in entries if kind == linux.E820_RAM)
    assert usable == memory_bytes - (MIB - 0x9FC00)


def test_memory_beyond_the_pci_hole_goes_above_4_gib() -> None:
    assert plan_ram(3 * GIB) == (Range(Gpa(0), PCI_WINDOW_GPA),)
    assert plan_ram(5 * GIB) == (Range(Gpa(0), PCI_WINDOW_GPA), Range(HIGH_RAM_GPA, 2 * GIB))


def test_the_ecam_window_is_reserved_or_linux_does_not_use_it() -> None:
    entries = read_map(build(64 * MIB)[ZERO_PAGE_GPA])
    assert (ECAM_GPA, ECAM_BYTES, linux.E820_RESERVED) in entries


@pytest.mark.parametrize("memory_bytes", [0, 64 * MIB - 1, MAX_MEMORY_BYTES + 1])
def test_a_memory_size_out_of_range_is_named(memory_bytes: int) -> None:
    with pytest.raises(InvalidArgument, match=f"memory_bytes is {memory_bytes}"):
        plan_ram(memory_bytes)


@pytest.mark.parametrize("memory_bytes", [64 * MIB, 5 * GIB, MAX_MEMORY_BYTES])
def test_the_64_bit_window_lies_above_ram_and_below_39_bits(memory_bytes: int) -> None:
    ram = plan_ram(memory_bytes)
    window = place_window64(ram)
    assert window.gpa >= max(ram[-1].end, HIGH_RAM_GPA)
    assert window.gpa % window.length == 0
    assert window.end <= 1 << 39


def test_the_setup_header_is_one_that_linux_accepts() -> None:
    page = build(64 * MIB)[ZERO_PAGE_GPA]
    assert len(page) == 4096
    assert page[0x1EF] == 0  # the sentinel: not 0 makes Linux wipe the header
    assert struct.unpack_from("<H", page, 0x1FE)[0] == 0xAA55
    assert page[0x202:0x206] == b"HdrS"
    assert struct.unpack_from("<Q", page, 0x070)[0] == ACPI_GPA


def test_the_command_line_is_where_the_zero_page_says_and_ends_with_nul() -> None:
    blobs = build(64 * MIB, "root=sampan-image ro")
    page = blobs[ZERO_PAGE_GPA]
    assert struct.unpack_from("<I", page, 0x228)[0] == COMMAND_LINE_GPA
    assert blobs[COMMAND_LINE_GPA] == b"root=sampan-image ro\0"
    assert struct.unpack_from("<I", page, 0x238)[0] == 20


def test_the_seed_travels_as_setup_data() -> None:
    blobs = build(64 * MIB)
    assert struct.unpack_from("<Q", blobs[ZERO_PAGE_GPA], 0x250)[0] == SETUP_DATA_GPA
    assert blobs[SETUP_DATA_GPA] == struct.pack("<QII", 0, 9, 32) + SEED


def test_the_longest_command_line_fits_and_one_more_byte_is_refused() -> None:
    assert len(linux.encode_command_line("x" * 2047)) == 2048
    with pytest.raises(InvalidArgument, match="2048 bytes, the kernel takes 2047"):
        linux.encode_command_line("x" * 2048)


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "ä"])
def test_bytes_that_do_not_belong_on_a_command_line_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="kernel_arguments"):
        linux.encode_command_line(text)


def test_the_blobs_of_the_first_mebibyte_do_not_overlap() -> None:
    from shim.vmm.boot.acpi import build_acpi
    from shim.vmm.boot.x86 import build_gdt, build_page_tables

    ram = plan_ram(64 * MIB)
    blobs = [
        *linux.build_boot_data(ram, "x" * 2047, ACPI_GPA, SEED),
        build_gdt(),
        build_page_tables(),
        build_acpi(254, place_window64(ram)).blob,
    ]
    ranges = sorted((blob.gpa, blob.gpa + len(blob.data)) for blob in blobs)
    assert all(end <= start for (_, end), (start, _) in pairwise(ranges))
    assert ranges[-1][1] <= MIB
