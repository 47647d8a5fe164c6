"""Parsing vmlinux: what is loaded where, and which file and field a refusal names."""

import struct

import pytest

from shim.errors import HostResource
from shim.vmm.address_map import Gpa
from shim.vmm.boot.kernel import EHDR, HEADER_BYTES, PHDR, PT_LOAD, Segment, parse_kernel

PT_NOTE = 4
FILE_BYTES = 0x400000
ENTRY = 0x1000100


def make_segment(
    *, kind: int = PT_LOAD, offset: int = 0x200000, gpa: int = 0x1000000, size: int = 0x1000
) -> list[int]:
    return [kind, 5, offset, 0xFFFFFFFF81000000, gpa, size, size * 2, 0x200000]


def make_elf(*segments: list[int], **changes: int) -> bytes:
    """A header as the linker makes it, with named fields changed."""
    fields = {
        "class": 2, "data": 1, "e_type": 2, "e_machine": 62, "e_entry": ENTRY,
        "e_phoff": EHDR.size, "e_phentsize": PHDR.size, "e_phnum": len(segments),
    } | changes  # fmt: skip
    identification = b"\x7fELF" + bytes([fields["class"], fields["data"], 1]) + bytes(9)
    header = EHDR.pack(
        identification, fields["e_type"], fields["e_machine"], 1, fields["e_entry"],
        fields["e_phoff"], 0, 0, EHDR.size, fields["e_phentsize"], fields["e_phnum"], 0, 0, 0,
    )  # fmt: skip
    return (header + b"".join(PHDR.pack(*segment) for segment in segments)).ljust(4096, b"\0")


def parse(header: bytes, file_bytes: int = FILE_BYTES):
    return parse_kernel(header, file_bytes, "/boot/vmlinux")


def test_load_segments_go_to_their_physical_addresses() -> None:
    note = make_segment(kind=PT_NOTE, gpa=0)
    kernel = parse(make_elf(make_segment(), make_segment(gpa=0x2000000, offset=0x300000), note))
    assert kernel.entry_gpa == ENTRY
    assert kernel.segments == (
        Segment(0x200000, 0x1000, Gpa(0x1000000), 0x2000),
        Segment(0x300000, 0x1000, Gpa(0x2000000), 0x2000),
    )
    assert kernel.end_gpa == 0x2002000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("e_type", 1),
        ("e_machine", 183),
        ("e_entry", 0x1001000),
        ("e_phentsize", 32),
        ("e_phnum", 0),
        ("e_phnum", 33),
        ("e_phoff", HEADER_BYTES),
        ("e_phoff", 2**64 - 64),
    ],
)
def test_a_field_no_kernel_has_is_named_with_its_value(field: str, value: int) -> None:
    with pytest.raises(HostResource, match=f"/boot/vmlinux: {field} is {value:#x}"):
        parse(make_elf(make_segment(), **{field: value}))


@pytest.mark.parametrize(("field", "name"), [("class", "EI_CLASS"), ("data", "EI_DATA")])
def test_other_architectures_are_refused(field: str, name: str) -> None:
    with pytest.raises(HostResource, match=name):
        parse(make_elf(make_segment(), **{field: 9}))


@pytest.mark.parametrize("gpa", [0, 0x9000, 0xFFFFF, 1 << 40, 2**64 - 1])
def test_a_segment_stays_off_the_first_mebibyte_and_below_the_limit(gpa: int) -> None:
    with pytest.raises(HostResource, match="segment 0: p_paddr"):
        parse(make_elf(make_segment(gpa=gpa)))


def test_segments_may_not_overlap() -> None:
    with pytest.raises(HostResource, match="overlapping"):
        parse(make_elf(make_segment(), make_segment(gpa=0x1001000)))


def test_a_file_cut_off_inside_a_segment_is_reported_with_both_lengths() -> None:
    with pytest.raises(HostResource, match=r"segment 0 ends at byte 2101248, the file has 2101247"):
        parse(make_elf(make_segment()), 0x201000 - 1)


def test_more_bytes_in_the_file_than_in_memory_are_refused() -> None:
    segment = make_segment()
    segment[6] = segment[5] - 1
    with pytest.raises(HostResource, match="p_filesz"):
        parse(make_elf(segment))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_file_too_short_for_a_magic_number_is_no_elf(length: int) -> None:
    with pytest.raises(HostResource, match="no ELF file"):
        parse(b"\x7fELF"[:length])


@pytest.mark.parametrize("length", [4, 5, 63])
def test_a_header_cut_off_is_reported(length: int) -> None:
    with pytest.raises(HostResource, match=f"cut off after {length} bytes"):
        parse(make_elf(make_segment())[:length])


def test_a_bzimage_is_distinguished_from_garbage() -> None:
    image = bytearray(4096)
    image[0x202:0x206] = b"HdrS"
    with pytest.raises(HostResource, match="compressed bzImage"):
        parse(bytes(image))


def test_no_header_crashes_the_parser() -> None:
    """Every byte of a good header, changed to every extreme, parses or is refused."""
    good = make_elf(make_segment(), make_segment(gpa=0x2000000))
    for position in range(EHDR.size + 2 * PHDR.size):
        for value in (0x00, 0x7F, 0x80, 0xFF):
            changed = bytearray(good)
            changed[position] = value
            try:
                kernel = parse(bytes(changed))
            except HostResource:
                continue
            assert all(s.file_offset + s.file_bytes <= FILE_BYTES for s in kernel.segments)
            assert all(s.gpa >= 1 << 20 for s in kernel.segments)


def test_the_header_layouts_are_those_of_elf64() -> None:
    assert (EHDR.size, PHDR.size) == (64, 56)
    assert struct.calcsize("<Q") == 8
