"""Structs of C as bytes: saved and restored without reading the fields."""

from native.ffi import Pointer, ffi
from shim.errors import HostResource


def take_bytes(pointer: Pointer) -> bytes:
    return bytes(ffi.buffer(pointer))


def make_struct(ctype: str, data: bytes) -> Pointer:
    """HostResource when `data` is of another size than the struct."""
    made = ffi.new(f"{ctype} *")
    if len(data) != ffi.sizeof(ctype):
        raise HostResource(f"{ctype}: {len(data)} bytes, not {ffi.sizeof(ctype)}")
    ffi.memmove(made, data, len(data))
    return made
