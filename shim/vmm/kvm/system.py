"""/dev/kvm: whether it exists, runs Linux guests, and which extensions it has.

Owns the descriptor.  Every refusal is one sentence that says what the host lacks.
Spec: Linux Documentation/virt/kvm/api.rst §4.1 to §4.4, §4.46.
"""

import errno
import os
from typing import Final

from native.ffi import ffi, lib
from shim.errors import HostResource
from shim.vmm.kvm.ioctl import kvm_ioctl
from shim.vmm.kvm.state import CpuidEntry

DEVICE: Final = "/dev/kvm"
PVM_MODULE: Final = "/sys/module/kvm_pvm"
KVM_API_VERSION: Final = 12
REQUIRED_CAPABILITIES: Final = (
    "KVM_CAP_IRQCHIP",
    "KVM_CAP_USER_MEMORY",
    "KVM_CAP_EXT_CPUID",
    "KVM_CAP_IRQFD",
    "KVM_CAP_IOEVENTFD",
    "KVM_CAP_IRQ_ROUTING",
    "KVM_CAP_IMMEDIATE_EXIT",
)
MAX_CPUID_ENTRIES: Final = 256


class KvmSystem:
    """Open while a machine is made; a VM does not need it afterwards."""

    def __init__(self) -> None:
        self.fd = open_device()
        try:
            self.check()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        try:
            version = kvm_ioctl(self.fd, "KVM_GET_API_VERSION")
        except OSError as error:
            raise HostResource(f"{DEVICE} is no KVM: {error.strerror}") from error
        if version != KVM_API_VERSION:
            raise HostResource(f"{DEVICE}: API version {version}, not {KVM_API_VERSION}")
        if os.path.exists(PVM_MODULE):
            raise HostResource(
                f"{DEVICE} is paravirtual (module kvm_pvm): it runs no unmodified Linux guest"
            )
        missing = [name for name in REQUIRED_CAPABILITIES if not self.read_capability(name)]
        if missing:
            raise HostResource(f"{DEVICE} runs no Linux guest: it lacks {', '.join(missing)}")

    def read_capability(self, name: str) -> int:
        return kvm_ioctl(self.fd, "KVM_CHECK_EXTENSION", getattr(lib, name))

    def read_supported_cpuid(self) -> tuple[CpuidEntry, ...]:
        table = ffi.new("struct kvm_cpuid2 *", {"entries": MAX_CPUID_ENTRIES})
        table.nent = MAX_CPUID_ENTRIES
        kvm_ioctl(self.fd, "KVM_GET_SUPPORTED_CPUID", table)
        return tuple(
            CpuidEntry(e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx)
            for e in table.entries[0 : table.nent]
        )

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_device() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        match error.errno:
            case errno.ENOENT | errno.ENODEV | errno.ENXIO:
                reason = "the host has no KVM, or its module is not loaded"
            case errno.EACCES | errno.EPERM:
                reason = "permission denied"
            case _:
                reason = str(error)
        raise HostResource(f"{DEVICE}: {reason}") from error
