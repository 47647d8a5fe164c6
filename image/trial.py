"""The root of the container that a template's machine runs before clones exist.

It is in the guest's own root, so the host creates and removes nothing for it, and a
snapshot can be taken after it has run.
"""

import struct
from pathlib import Path
from typing import Final

from proto import contract

MOUNT_POINTS: Final = ("dev", "proc", "run", "sys")
LOAD_ADDRESS: Final = 0x400000
CODE: Final = bytes.fromhex("31ff b83c000000 0f05")
"""xor %edi, %edi; mov $60, %eax; syscall: exit(0)."""


def write_trial(root: Path) -> None:
    directory = root / contract.GUEST_TRIAL_DIR.lstrip("/")
    for name in MOUNT_POINTS:
        (directory / name).mkdir(parents=True)
    program = directory / contract.GUEST_TRIAL_PROGRAM.lstrip("/")
    program.write_bytes(make_program())
    program.chmod(0o755)


def make_program() -> bytes:
    """A static executable.  ELF-64 object file format 1.5, chapters 3 and 6."""
    header_bytes, segment_bytes = 64, 56
    entry = LOAD_ADDRESS + header_bytes + segment_bytes
    ident = b"\x7fELF" + bytes([2, 1, 1, 0])
    header = struct.pack(
        "<8s8xHHIQQQIHHHHHH",
        *(ident, 2, 62, 1, entry, header_bytes, 0, 0, header_bytes, segment_bytes, 1, 0, 0, 0),
    )
    whole = header_bytes + segment_bytes + len(CODE)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, LOAD_ADDRESS, LOAD_ADDRESS, whole, whole, 4096)
    return header + segment + CODE
