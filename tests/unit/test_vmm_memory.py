"""Guest RAM without KVM: what is loaded where, and that it is never shared."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from native.ffi import ffi
from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import HIGH_RAM_GPA, MIB, Gpa, Range
from shim.vmm.kvm.memory import GuestRam

LOW = Range(Gpa(0), 4 * MIB)
HIGH = Range(HIGH_RAM_GPA, 2 * MIB)
PAGES = b"".join(bytes([page]) * 4096 for page in range(1, 4)) + b"tail"


@pytest.fixture
def ram() -> Iterator[GuestRam]:
    ram = GuestRam((LOW, HIGH))
    yield ram
    ram.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(PAGES)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def read(ram: GuestRam, gpa: int, length: int) -> bytes:
    area, hva = next((area, hva) for area, hva in ram.regions if area.gpa <= gpa < area.end)
    assert gpa + length <= area.end
    return bytes(ffi.buffer(ffi.cast("uint8_t *", hva) + (gpa - area.gpa), length))


@pytest.mark.parametrize("gpa", [0, LOW.length - 5, HIGH.gpa, HIGH.end - 5])
def test_what_is_written_is_there(ram: GuestRam, gpa: int) -> None:
    ram.write(Gpa(gpa), b"hello")
    assert read(ram, gpa, 5) == b"hello"


@pytest.mark.parametrize("gpa", [LOW.length - 4, LOW.length, HIGH.gpa - 1, HIGH.end, 2**64 - 1])
def test_what_does_not_fit_names_the_size_of_memory(ram: GuestRam, gpa: int) -> None:
    with pytest.raises(InvalidArgument, match=f"memory_bytes is {6 * MIB}"):
        ram.write(Gpa(gpa), b"hello")


@pytest.mark.parametrize("method", [GuestRam.load, GuestRam.map])
@pytest.mark.parametrize("offset", [0, 4096, 100])
def test_a_file_is_there_to_its_last_byte_and_zeros_follow(
    ram: GuestRam, file: int, method: Callable[..., None], offset: int
) -> None:
    method(ram, Gpa(MIB), file, offset, len(PAGES) - offset, "kernel")
    expected = PAGES[offset:] + bytes(100)
    assert read(ram, MIB, len(expected)) == expected


@pytest.mark.parametrize("method", [GuestRam.load, GuestRam.map])
def test_a_file_that_ends_early_is_named(
    ram: GuestRam, file: int, method: Callable[..., None]
) -> None:
    with pytest.raises(HostResource, match="vmlinux: cut off"):
        method(ram, Gpa(MIB), file, 0, len(PAGES) + 1, "vmlinux")


def test_what_the_guest_writes_does_not_reach_the_file(ram: GuestRam, file: int) -> None:
    ram.map(Gpa(MIB), file, 0, len(PAGES), "kernel")
    ram.write(Gpa(MIB), b"changed")
    assert os.pread(file, 7, 0) == PAGES[:7]


def test_guest_memory_is_private(ram: GuestRam, file: int) -> None:
    """MAP_SHARED anywhere would break the copy-on-write of clones."""
    ram.map(Gpa(MIB), file, 0, len(PAGES), "kernel")
    (area, hva), _ = ram.regions
    start = int(ffi.cast("uintptr_t", hva))
    flags = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, permissions, *_ = line.split()
        low, high = (int(part, 16) for part in addresses.split("-"))
        if low < start + area.length and start < high:
            flags.append(permissions)
    assert len(flags) == 3
    assert all(permissions == "rw-p" for permissions in flags)


def test_more_memory_than_can_be_mapped_is_reported() -> None:
    with pytest.raises(HostResource, match=f"no {1 << 50} bytes of guest memory"):
        GuestRam((Range(Gpa(0), 1 << 50),))
