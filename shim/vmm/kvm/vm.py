"""One KVM machine: memory slots, interrupt controllers, vCPU descriptors.

Owns the VM's descriptor.  The interrupt controllers are KVM's own, so they cause no
exits to user space; there is no PIT: the ACPI tables tell the guest so.
Spec: Linux Documentation/virt/kvm/api.rst §4.2, §4.7, §4.24, §4.35, §4.36, §4.41.
"""

import errno
import os

from native.ffi import ffi
from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import IDENTITY_MAP_GPA, TSS_GPA
from shim.vmm.kvm.ioctl import kvm_ioctl
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.system import KvmSystem


class Vm:
    """Interrupt controllers come before vCPUs: KVM gives a vCPU its APIC when it is made."""

    def __init__(self, system: KvmSystem) -> None:
        try:
            self.fd = kvm_ioctl(system.fd, "KVM_CREATE_VM")
        except OSError as error:
            raise HostResource(f"KVM_CREATE_VM: {describe_failure(error)}") from error
        os.set_inheritable(self.fd, False)

    def create_interrupt_controllers(self) -> None:
        kvm_ioctl(self.fd, "KVM_SET_TSS_ADDR", TSS_GPA)
        kvm_ioctl(self.fd, "KVM_SET_IDENTITY_MAP_ADDR", ffi.new("uint64_t *", IDENTITY_MAP_GPA))
        kvm_ioctl(self.fd, "KVM_CREATE_IRQCHIP")

    def add_memory(self, ram: GuestRam) -> None:
        """Lifetime: the mappings outlive this VM; their owner closes them after it."""
        for slot, (area, hva) in enumerate(ram.regions):
            region = ffi.new("struct kvm_userspace_memory_region *")
            region.slot = slot
            region.guest_phys_addr = area.gpa
            region.memory_size = area.length
            region.userspace_addr = int(ffi.cast("uintptr_t", hva))
            kvm_ioctl(self.fd, "KVM_SET_USER_MEMORY_REGION", region)

    def create_vcpu(self, index: int) -> int:
        """The caller owns the descriptor."""
        try:
            fd = kvm_ioctl(self.fd, "KVM_CREATE_VCPU", index)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise InvalidArgument(f"vcpus: KVM has no vCPU {index}") from error
            raise HostResource(f"KVM_CREATE_VCPU {index}: {describe_failure(error)}") from error
        os.set_inheritable(fd, False)
        return fd

    def connect_irqfd(self, fd: int, gsi: int) -> None:
        """A write to the eventfd raises the interrupt, edge-triggered."""
        irqfd = ffi.new("struct kvm_irqfd *", {"fd": fd, "gsi": gsi})
        kvm_ioctl(self.fd, "KVM_IRQFD", irqfd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def describe_failure(error: OSError) -> str:
    match error.errno:
        case errno.ENOMEM:
            return "not enough memory on the host"
        case errno.EBUSY:
            return "another hypervisor holds the processor's virtualisation"
        case _:
            return str(error)
