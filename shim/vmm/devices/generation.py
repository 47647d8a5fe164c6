"""The machine's generation: a random number that is different in each clone.

Linux (drivers/virt/vmgenid.c) mixes it into its random numbers, and reseeds them
when the interrupt says that it has changed.  Owns the interrupt.
Spec: Microsoft's "Virtual Machine Generation ID" (2012); boot/acpi.py has the device.
"""

import os
from typing import Final

from shim.vmm.address_map import GENERATION_GPA, GENERATION_GSI
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.part import Part
from shim.vmm.kvm.vm import Vm

NUMBER_BYTES: Final = 16


class Generation(Part):
    """Lives as long as the VM that has its interrupt."""

    name = "generation"

    def __init__(self, vm: Vm, ram: GuestRam) -> None:
        self.ram = ram
        self.irq_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            vm.connect_irqfd(self.irq_fd, GENERATION_GSI)
        except BaseException:
            self.close()
            raise

    def begin(self, cloned: bool) -> None:
        """A new number; in a clone also the interrupt, whose controllers are restored."""
        self.ram.write(GENERATION_GPA, os.urandom(NUMBER_BYTES))
        if cloned:
            os.eventfd_write(self.irq_fd, 1)

    def close(self) -> None:
        os.close(self.irq_fd)
