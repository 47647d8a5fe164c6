"""Unpacking a bzImage: the payload is found, bounded and checked."""

import gzip
import lzma
import struct

import pytest

from image.errors import FormatError
from image.kernel import MAX_VMLINUX_BYTES, find_payload, unpack_kernel

VMLINUX = b"\x7fELF" + bytes(range(256)) * 8


def make_bzimage(payload: bytes, *, setup_sectors: int = 3, length: int | None = None) -> bytes:
    """A boot header (boot protocol 2.15) with `payload` 64 bytes into the kernel proper."""
    sectors = setup_sectors or 4
    image = bytearray((sectors + 1) * 512 + 64)
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, 0x020F)
    struct.pack_into("<II", image, 0x248, 64, len(payload) if length is None else length)
    return bytes(image) + payload


def with_size(packed: bytes, size: int = len(VMLINUX)) -> bytes:
    return packed + struct.pack("<I", size)


def test_an_elf_file_is_passed_through() -> None:
    assert unpack_kernel(VMLINUX, "vmlinux") == VMLINUX


def test_an_xz_payload_unpacks() -> None:
    image = make_bzimage(with_size(lzma.compress(VMLINUX)))
    assert unpack_kernel(image, "vmlinuz") == VMLINUX


def test_a_gzip_payload_unpacks_with_its_own_trailer() -> None:
    assert unpack_kernel(make_bzimage(gzip.compress(VMLINUX)), "vmlinuz") == VMLINUX


def test_setup_sects_of_zero_means_four() -> None:
    image = make_bzimage(gzip.compress(VMLINUX), setup_sectors=0)
    assert unpack_kernel(image, "vmlinuz") == VMLINUX


@pytest.mark.parametrize("content", [b"", b"HdrS", b"\0" * 4096], ids=["empty", "short", "zeros"])
def test_what_is_no_kernel_is_named(content: bytes) -> None:
    with pytest.raises(FormatError, match="/boot/junk: neither an ELF file nor a bzImage"):
        unpack_kernel(content, "/boot/junk")


def test_a_payload_that_reaches_past_the_file_is_refused() -> None:
    payload = with_size(lzma.compress(VMLINUX))
    with pytest.raises(FormatError, match="is not inside"):
        find_payload(make_bzimage(payload, length=len(payload) + 1), "vmlinuz")


def test_a_payload_shorter_than_its_size_field_is_refused() -> None:
    with pytest.raises(FormatError, match="payload of 4 bytes"):
        find_payload(make_bzimage(b"\0" * 64, length=4), "vmlinuz")


def test_an_unpacked_size_over_the_limit_is_refused_before_unpacking() -> None:
    payload = with_size(lzma.compress(VMLINUX), MAX_VMLINUX_BYTES + 1)
    with pytest.raises(FormatError, match=f"{MAX_VMLINUX_BYTES + 1} is over {MAX_VMLINUX_BYTES}"):
        unpack_kernel(make_bzimage(payload), "vmlinuz")


def test_a_size_that_does_not_fit_the_content_is_refused() -> None:
    payload = with_size(lzma.compress(VMLINUX), len(VMLINUX) - 1)
    with pytest.raises(FormatError, match=f"unpacks to {len(VMLINUX)} bytes"):
        unpack_kernel(make_bzimage(payload), "vmlinuz")


def test_a_damaged_payload_is_refused() -> None:
    packed = bytearray(lzma.compress(VMLINUX))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(FormatError, match="damaged"):
        unpack_kernel(make_bzimage(with_size(bytes(packed))), "vmlinuz")


def test_an_unknown_compression_is_named_by_its_magic() -> None:
    with pytest.raises(FormatError, match="compression 04224d18"):
        unpack_kernel(make_bzimage(b"\x04\x22\x4d\x18" + b"\0" * 32), "vmlinuz")


def test_an_old_boot_protocol_is_refused() -> None:
    image = bytearray(make_bzimage(gzip.compress(VMLINUX)))
    struct.pack_into("<H", image, 0x206, 0x0207)
    with pytest.raises(FormatError, match="0x0207 is older than 0x0208"):
        unpack_kernel(bytes(image), "vmlinuz")


def test_a_payload_that_holds_no_elf_file_is_refused() -> None:
    with pytest.raises(FormatError, match="not an ELF file"):
        unpack_kernel(make_bzimage(gzip.compress(b"MZ" * 64)), "vmlinuz")
