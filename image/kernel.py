"""Unpacks a Linux bzImage to the uncompressed ELF file that the vmm boots.

Pure except where a decompressor is run: `find_payload` reads the boot header
(Linux boot protocol, "The Real-Mode Kernel Header") and bounds every offset by
the file.  A file that is an ELF already is passed through.
"""

import gzip
import lzma
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from image.errors import FormatError
from image.tools import require_tools, run_tool

ELF_MAGIC: Final = b"\x7fELF"
ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
XZ_MAGIC: Final = b"\xfd7zXZ\x00"
GZIP_MAGIC: Final = b"\x1f\x8b"

SETUP_SECTS_OFFSET: Final = 0x1F1
HEADER_MAGIC_OFFSET: Final = 0x202
HEADER_MAGIC: Final = b"HdrS"
VERSION_OFFSET: Final = 0x206
MIN_VERSION: Final = 0x0208  # the first with payload_offset and payload_length
PAYLOAD_OFFSET: Final = 0x248
HEADER_END: Final = 0x250
SECTOR_BYTES: Final = 512
DEFAULT_SETUP_SECTS: Final = 4  # the value that 0 in setup_sects stands for
SIZE_BYTES: Final = 4  # follows every payload except gzip's: the unpacked size
MAX_VMLINUX_BYTES: Final = 512 << 20


@dataclass(frozen=True)
class Payload:
    """The compressed kernel inside a bzImage."""

    compressed: bytes
    unpacked_bytes: int


def find_payload(image: bytes, name: str) -> Payload:
    """Finds the kernel by the boot header.  `name` is for messages only."""
    if len(image) < HEADER_END or not image.startswith(HEADER_MAGIC, HEADER_MAGIC_OFFSET):
        raise FormatError(f"{name}: neither an ELF file nor a bzImage")
    (version,) = struct.unpack_from("<H", image, VERSION_OFFSET)
    if version < MIN_VERSION:
        raise FormatError(f"{name}: boot protocol {version:#06x} is older than {MIN_VERSION:#06x}")
    sectors = image[SETUP_SECTS_OFFSET] or DEFAULT_SETUP_SECTS
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    start = (sectors + 1) * SECTOR_BYTES + offset
    if length <= SIZE_BYTES or start + length > len(image):
        raise FormatError(
            f"{name}: payload of {length} bytes at {start} is not inside {len(image)} bytes"
        )
    payload = image[start : start + length]
    (unpacked_bytes,) = struct.unpack("<I", payload[-SIZE_BYTES:])
    if unpacked_bytes > MAX_VMLINUX_BYTES:
        raise FormatError(f"{name}: unpacked size {unpacked_bytes} is over {MAX_VMLINUX_BYTES}")
    if payload.startswith(GZIP_MAGIC):
        return Payload(payload, unpacked_bytes)  # gzip's own trailer is the size
    return Payload(payload[:-SIZE_BYTES], unpacked_bytes)


def decompress(payload: Payload, name: str) -> bytes:
    packed = payload.compressed
    try:
        if packed.startswith(ZSTD_MAGIC):
            require_tools(["zstd"])
            unpacked = run_tool(["zstd", "--decompress", "--stdout", "--quiet"], stdin=packed)
        elif packed.startswith(XZ_MAGIC):
            unpacked = lzma.decompress(packed)
        elif packed.startswith(GZIP_MAGIC):
            unpacked = gzip.decompress(packed)
        else:
            raise FormatError(f"{name}: payload compression {packed[:4].hex()} is not known")
    except (lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise FormatError(f"{name}: payload is damaged: {error}") from error
    if len(unpacked) != payload.unpacked_bytes:
        raise FormatError(
            f"{name}: payload unpacks to {len(unpacked)} bytes, not {payload.unpacked_bytes}"
        )
    return unpacked


def unpack_kernel(image: bytes, name: str) -> bytes:
    """The vmlinux in `image`, which is a bzImage or an ELF file."""
    vmlinux = image
    if not image.startswith(ELF_MAGIC):
        vmlinux = decompress(find_payload(image, name), name)
    if not vmlinux.startswith(ELF_MAGIC):
        raise FormatError(f"{name}: what it unpacks to is not an ELF file")
    return vmlinux
