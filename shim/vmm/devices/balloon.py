"""virtio-balloon, only for free page reporting: memory that the guest frees returns to the host.

The guest's driver reports free memory in blocks of 2 MiB and more, two seconds
after they were freed; nothing waits for a report.
Spec: virtio 1.2 §5.5; Linux mm/page_reporting.c.
"""

from typing import Final, Protocol, cast

from native.ffi import Pointer, check, ffi, library
from shim.vmm.devices.pci import DeviceDescription, PciBus
from shim.vmm.kvm.part import Part


class BalloonLibrary(Protocol):
    """cdef/balloon.h."""

    BALLOON_QUEUES: int

    def balloon_device_new(self, ret_device: Pointer, /) -> int: ...
    def balloon_device_features(self) -> int: ...


lib = cast(BalloonLibrary, library)

VIRTIO_TYPE: Final = 5
CLASS_CODE: Final = 0x00FF00  # no class fits
QUEUE_SIZE: Final = 64
"""Two of Linux' largest reports, of 32 ranges; one at a time is in flight."""
CONFIG_BYTES: Final = 16
"""struct virtio_balloon_config: all zeros, the guest is never asked for a page."""


class Balloon(Part):
    """Lives as long as the PciBus that it was added to, which owns the model."""

    name = "balloon"

    def __init__(self, pci: PciBus) -> None:
        device = ffi.new("struct virtio_device **")
        check(lib.balloon_device_new(device), "balloon_device_new")
        description = DeviceDescription(
            name=self.name,
            virtio_type=VIRTIO_TYPE,
            class_code=CLASS_CODE,
            features=lib.balloon_device_features(),
            queue_sizes=(QUEUE_SIZE,) * lib.BALLOON_QUEUES,
            config=bytes(CONFIG_BYTES),
        )
        pci.add(description, device[0])
