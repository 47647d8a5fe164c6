"""The guest's kernel: a file of the host, open while it is loaded.

`boot.kernel` parses its bytes.
"""

import os
from typing import Self

from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import Range
from shim.vmm.boot.kernel import HEADER_BYTES, parse_kernel
from shim.vmm.boot.x86 import IDENTITY_MAPPED_BYTES
from shim.vmm.kvm.memory import GuestRam


class KernelFile:
    """Checked when opened, before a machine is made.  A context manager."""

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
        """Most of a kernel is never touched and costs nothing; pages that are only read are in
        memory once for all machines."""
        for segment in self.kernel.segments:
            ram.map(segment.gpa, self.fd, segment.file_offset, segment.file_bytes, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
