"""What KVM keeps of a machine beside its vCPUs: interrupt controllers and clock.

Spec: Linux Documentation/virt/kvm/api.rst §4.26, §4.27 (irqchip), §4.29, §4.30 (clock).
"""

from typing import Final

from native.ffi import ffi, lib
from shim.vmm.kvm.ioctl import kvm_ioctl
from shim.vmm.kvm.opaque import make_struct, take_bytes
from shim.vmm.kvm.part import Part, PartState
from shim.vmm.kvm.vm import Vm

CHIPS: Final = ("KVM_IRQCHIP_PIC_MASTER", "KVM_IRQCHIP_PIC_SLAVE", "KVM_IRQCHIP_IOAPIC")


class VmState(Part):
    """Restored before the vCPUs are."""

    name = "vm"

    def __init__(self, vm: Vm) -> None:
        self.fd = vm.fd
        self.saved: PartState = {}

    def save(self) -> PartState:
        return save_vm(self.fd)

    def restore(self, state: PartState) -> None:
        restore_vm(self.fd, state)
        self.saved = state

    def rewind(self) -> None:
        restore_clock(self.fd, self.saved)


def save_vm(fd: int) -> PartState:
    """While no vCPU runs."""
    state = {}
    for name in CHIPS:
        chip = ffi.new("struct kvm_irqchip *")
        chip.chip_id = getattr(lib, name)
        kvm_ioctl(fd, "KVM_GET_IRQCHIP", chip)
        state[name] = take_bytes(chip)
    clock = ffi.new("struct kvm_clock_data *")
    kvm_ioctl(fd, "KVM_GET_CLOCK", clock)
    state["clock"] = int(clock.clock).to_bytes(8, "little")
    return state


def restore_vm(fd: int, state: PartState) -> None:
    """Before the vCPUs are restored: the guest's clock continues from the saved time."""
    for name in CHIPS:
        chip = make_struct("struct kvm_irqchip", state[name])
        chip.chip_id = getattr(lib, name)
        kvm_ioctl(fd, "KVM_SET_IRQCHIP", chip)
    restore_clock(fd, state)


def restore_clock(fd: int, state: PartState) -> None:
    clock = ffi.new("struct kvm_clock_data *")
    clock.clock = int.from_bytes(state["clock"], "little")
    kvm_ioctl(fd, "KVM_SET_CLOCK", clock)
