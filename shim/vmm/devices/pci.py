"""PCI bus 0: which device sits in which slot, and where its BAR begins.

Owns native's window, and with it every device model put into it.  Serves
nothing itself: configuration space and BARs are answered in C.
Spec: PCI Express 5.0 §7.2.2 (ECAM); virtio 1.2 §4.1.
"""

from typing import Any, Final, NamedTuple

from native.ffi import PciWindow, Pointer, VirtioDevice, check, ffi, lib
from shim.errors import InvalidArgument
from shim.vmm.address_map import ECAM_GPA, PCI_WINDOW_BYTES, PCI_WINDOW_GPA, Range
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.opaque import make_struct, take_bytes
from shim.vmm.kvm.part import Part, PartState
from shim.vmm.kvm.vm import Vm

FIRST_SLOT: Final = 1
"""Slot 0 is the host bridge's by convention, and stays empty."""


class DeviceDescription(NamedTuple):
    """A virtio device as its driver sees it."""

    name: str
    virtio_type: int  # virtio 1.2 §5
    class_code: int
    features: int
    queue_sizes: tuple[int, ...]
    config: bytes


class PciBus(Part):
    """Fill it, attach it to the bus, run vCPUs; `close` only after those have stopped.

    Restored last: it starts the devices, which read memory and raise interrupts.
    """

    name = "pci"

    def __init__(self, vm: Vm, ram: GuestRam, events: MachineEvents, window64: Range) -> None:
        ret_window = ffi.new("struct pci_window **")
        ioapic = True
        check(
            lib.pci_window_new(
                ffi.addressof(lib, "kvm_calls"),
                vm.fd,
                ioapic,
                ram.table,
                events.pointer,
                ret_window,
            ),
            "pci_window_new",
        )
        self.window: PciWindow = ret_window[0]
        self.window64 = window64
        self.slots: list[str] = []

    def add(self, description: DeviceDescription, model: VirtioDevice) -> int:
        """The device's slot.  Takes the model over, also when it fails."""
        slot = FIRST_SLOT + len(self.slots)
        try:
            if slot >= lib.PCI_WINDOW_SLOTS:
                raise InvalidArgument(f"{description.name}: no PCI slot is left")
            described = describe(description, PCI_WINDOW_GPA + slot * lib.PCI_BAR_BYTES)
            check(lib.pci_window_add(self.window, slot, described, model), "pci_window_add")
        except BaseException:
            lib.virtio_device_destroy(model)
            raise
        self.slots.append(description.name)
        return slot

    def set_config(self, slot: int, config: bytes) -> None:
        """The first bytes of a device's configuration; the driver is told (virtio 1.2 §2.5)."""
        result = lib.pci_window_set_config(self.window, slot, 0, config, len(config))
        check(result, "pci_window_set_config")

    def stop(self) -> None:
        """The devices' threads have ended when it returns; vCPUs must not run."""
        lib.pci_window_stop(self.window)

    def save(self) -> PartState:
        """The devices' state as drivers have set it up, by name."""
        found = {}
        for slot, name in enumerate(self.slots, FIRST_SLOT):
            state = ffi.new("struct virtio_pci_state *")
            check(lib.pci_window_save(self.window, slot, state), name)
            found[name] = take_bytes(state)
        return found

    def restore(self, state: PartState) -> None:
        """Starts the devices that ran."""
        if list(state) != self.slots:
            raise InvalidArgument(f"devices {list(state)}: the machine has {self.slots}")
        structs = [make_struct("struct virtio_pci_state", data) for data in state.values()]
        # All interrupt routes at once: each change of KVM's table waits for a grace period.
        for slot, struct in enumerate(structs, FIRST_SLOT):
            result = lib.pci_window_stage_routes(self.window, slot, struct)
            check(result, "pci_window_stage_routes")
        check(lib.pci_window_commit_routes(self.window), "pci_window_commit_routes")
        for slot, (name, struct) in enumerate(zip(state, structs, strict=True), FIRST_SLOT):
            check(lib.pci_window_restore(self.window, slot, struct), name)

    def attach(self, bus: Bus) -> None:
        window64 = self.window64
        check(
            lib.pci_window_attach_ecam(self.window, bus.pointer, ECAM_GPA), "pci_window_attach_ecam"
        )
        for gpa, length in ((PCI_WINDOW_GPA, PCI_WINDOW_BYTES), (window64.gpa, window64.length)):
            result = lib.pci_window_attach_memory(self.window, bus.pointer, gpa, length)
            check(result, "pci_window_attach_memory")

    def read_counters(self) -> dict[str, Any]:
        return {"devices": self.read_device_counters()}

    def read_device_counters(self) -> dict[str, dict[str, int]]:
        counters = ffi.new("struct pci_device_counters *")
        found = {}
        for slot, name in enumerate(self.slots, FIRST_SLOT):
            check(lib.pci_window_read_counters(self.window, slot, counters), name)
            found[name] = {field: getattr(counters, field) for field in dir(counters[0])}
        return found

    def close(self) -> None:
        lib.pci_window_free(self.window)
        self.window = ffi.NULL


def describe(description: DeviceDescription, bar_gpa: int) -> Pointer:
    described = ffi.new("struct pci_device_description *")
    described.name = description.name.encode()[: lib.VIRTIO_PCI_NAME_BYTES - 1]
    described.virtio_type = description.virtio_type
    described.class_code = description.class_code
    described.features = description.features
    described.queue_count = len(description.queue_sizes)
    described.queue_sizes[0 : len(description.queue_sizes)] = description.queue_sizes
    described.config_bytes = len(description.config)
    ffi.memmove(described.config, description.config, len(description.config))
    described.bar_gpa = bar_gpa
    return described
