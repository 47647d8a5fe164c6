"""A small encoder of AML, the byte code of ACPI's DSDT.

Pure: each function returns the bytes of one term.
Spec: ACPI 6.5 §20.2 (AML grammar), §6.4 (resource descriptors).
"""

import struct
from typing import Final

ZERO_OP: Final = b"\x00"
ONE_OP: Final = b"\x01"
NAME_OP: Final = b"\x08"
SCOPE_OP: Final = b"\x10"
STRING_PREFIX: Final = b"\x0d"
BUFFER_OP: Final = b"\x11"
PACKAGE_OP: Final = b"\x12"
METHOD_OP: Final = b"\x14"
NOTIFY_OP: Final = b"\x86"
DEVICE_OP: Final = b"\x5b\x82"
END_TAG: Final = b"\x79\x00"

RESOURCE_BUS: Final = 2
RESOURCE_MEMORY: Final = 0
ADDRESS_FIXED: Final = 0x0C
"""Minimum and maximum are fixed; positive decode; a producer's window."""
MEMORY_READ_WRITE: Final = 0x01


def integer(value: int) -> bytes:
    if value in (0, 1):
        return ONE_OP if value else ZERO_OP
    for prefix, layout in ((0x0A, "<B"), (0x0B, "<H"), (0x0C, "<I"), (0x0E, "<Q")):
        if value < 1 << 8 * struct.calcsize(layout):
            return bytes([prefix]) + struct.pack(layout, value)
    raise ValueError(f"no AML integer: {value:#x}")


def name_string(name: str) -> bytes:
    """A path: `\\` is the root, segments are padded to four with `_`."""
    prefix = b"\\" if name.startswith("\\") else b""
    segments = [part.ljust(4, "_").encode("ascii") for part in name.lstrip("\\").split(".")]
    if any(len(segment) != 4 for segment in segments):
        raise ValueError(f"no AML name: {name!r}")
    match len(segments):
        case 1:
            return prefix + segments[0]
        case 2:
            return prefix + b"\x2e" + b"".join(segments)
        case count:
            return prefix + b"\x2f" + bytes([count]) + b"".join(segments)


def with_length(content: bytes) -> bytes:
    """PkgLength, which counts its own bytes, then the content."""
    if len(content) + 1 < 1 << 6:
        return bytes([len(content) + 1]) + content
    for extra in (1, 2, 3):
        total = len(content) + 1 + extra
        if total < 1 << 4 + 8 * extra:
            head = extra << 6 | total & 0xF
            return bytes([head]) + (total >> 4).to_bytes(extra, "little") + content
    raise ValueError(f"AML term of {len(content)} bytes is too long")


def scope(name: str, *terms: bytes) -> bytes:
    return SCOPE_OP + with_length(name_string(name) + b"".join(terms))


def device(name: str, *terms: bytes) -> bytes:
    return DEVICE_OP + with_length(name_string(name) + b"".join(terms))


def named(name: str, value: bytes) -> bytes:
    return NAME_OP + name_string(name) + value


def method(name: str, arguments: int, *terms: bytes) -> bytes:
    """Not serialized."""
    return METHOD_OP + with_length(name_string(name) + bytes([arguments]) + b"".join(terms))


def notify(name: str, value: int) -> bytes:
    return NOTIFY_OP + name_string(name) + integer(value)


def string(text: str) -> bytes:
    return STRING_PREFIX + text.encode("ascii") + b"\0"


def package(*elements: bytes) -> bytes:
    return PACKAGE_OP + with_length(bytes([len(elements)]) + b"".join(elements))


def buffer(data: bytes) -> bytes:
    return BUFFER_OP + with_length(integer(len(data)) + data)


def eisa_id(name: str) -> bytes:
    """`PNP0A08`: three letters of five bits, four hexadecimal digits, big-endian."""
    letters = 0
    for letter in name[:3]:
        letters = letters << 5 | ord(letter) - 0x40
    packed = letters << 16 | int(name[3:], 16)
    return b"\x0c" + packed.to_bytes(4, "big")


def resources(*descriptors: bytes) -> bytes:
    return buffer(b"".join(descriptors) + END_TAG)


def bus_numbers(first: int, last: int) -> bytes:
    return address_space(0x88, "<5H", bytes([RESOURCE_BUS, ADDRESS_FIXED, 0]), first, last)


def memory_window(base: int, length: int) -> bytes:
    """DWordMemory or QWordMemory that a bridge passes on to its devices."""
    kind = bytes([RESOURCE_MEMORY, ADDRESS_FIXED, MEMORY_READ_WRITE])
    last = base + length - 1
    if last < 1 << 32:
        return address_space(0x87, "<5I", kind, base, last)
    return address_space(0x8A, "<5Q", kind, base, last)


def address_space(tag: int, layout: str, kind: bytes, first: int, last: int) -> bytes:
    body = kind + struct.pack(layout, 0, first, last, 0, last - first + 1)
    return bytes([tag]) + struct.pack("<H", len(body)) + body


def fixed_memory(base: int, length: int) -> bytes:
    return struct.pack("<BHBII", 0x86, 9, MEMORY_READ_WRITE, base, length)


def io_ports(base: int, length: int) -> bytes:
    return struct.pack("<BBHHBB", 0x47, 1, base, base, 1, length)


def interrupt(gsi: int) -> bytes:
    """One edge-triggered, active-high, exclusive interrupt."""
    return struct.pack("<BHBBI", 0x89, 6, 0x03, 1, gsi)
