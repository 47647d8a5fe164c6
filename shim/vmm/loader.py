"""From the kernel's file and the boot tables to a filled guest memory.

Owns the open kernel while it is loaded.  What the bytes are is `boot`'s matter;
where they go is `address_map`'s.
"""

import os
from collections.abc import Sequence
from typing import Final, Self

from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import Range, place_window64
from shim.vmm.boot.acpi import build_acpi
from shim.vmm.boot.kernel import HEADER_BYTES, parse_kernel
from shim.vmm.boot.linux import build_boot_data
from shim.vmm.boot.x86 import IDENTITY_MAPPED_BYTES, build_gdt, build_page_tables
from shim.vmm.kvm.memory import GuestRam

RNG_SEED_BYTES: Final = 64


class KernelFile:
    """Checked when opened, so that a bad file costs no machine.  A context manager."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise HostResource(f"kernel {path}: {error.strerror}") from error
        try:
            header = os.pread(self.fd, HEADER_BYTES, 0)
            self.kernel = parse_kernel(header, os.fstat(self.fd).st_size, path)
        except OSError as error:
            os.close(self.fd)
            raise HostResource(f"kernel {path}: {error.strerror}") from error
        except BaseException:
            os.close(self.fd)
            raise

    def check_fit(self, memory_bytes: int, low_ram: Range) -> None:
        end = self.kernel.end_gpa
        if end > min(low_ram.end, IDENTITY_MAPPED_BYTES):
            raise InvalidArgument(
                f"memory_bytes is {memory_bytes}: kernel {self.path} alone ends at {end}"
            )

    def load(self, ram: GuestRam) -> None:
        """Most of a kernel is never read or written to: that part costs nothing, and what is
        only read is there once for all machines."""
        for segment in self.kernel.segments:
            ram.map(segment.gpa, self.fd, segment.file_offset, segment.file_bytes, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def load_boot_data(ram: GuestRam, ram_plan: Sequence[Range], vcpus: int, command_line: str) -> None:
    acpi = build_acpi(vcpus, place_window64(ram_plan))
    seed = os.urandom(RNG_SEED_BYTES)
    for blob in (
        build_gdt(),
        build_page_tables(),
        acpi.blob,
        *build_boot_data(ram_plan, command_line, acpi.rsdp_gpa, seed),
    ):
        ram.write(blob.gpa, blob.data)
