"""virtio-balloon, for free page reporting alone: what the guest frees goes to the host.

The guest's driver tells of free memory in blocks of 2 MiB and more, two seconds
after they were freed; nobody waits for it.
Spec: virtio 1.2 §5.5; Linux mm/page_reporting.c.
"""

from typing import Final

from native.ffi import check, ffi, lib
from shim.vmm.devices.pci import DeviceDescription, PciBus

NAME: Final = "balloon"
VIRTIO_TYPE: Final = 5
CLASS_CODE: Final = 0x00FF00  # no class fits
QUEUE_SIZE: Final = 64
"""Two reports of Linux' largest, 32 ranges; one is on its way at a time."""
CONFIG_BYTES: Final = 16
"""struct virtio_balloon_config: it is never asked for a page."""


def add_balloon(pci: PciBus) -> None:
    device = ffi.new("struct virtio_device **")
    check(lib.balloon_device_new(device), "balloon_device_new")
    description = DeviceDescription(
        name=NAME,
        virtio_type=VIRTIO_TYPE,
        class_code=CLASS_CODE,
        features=lib.balloon_device_features(),
        queue_sizes=(QUEUE_SIZE,) * lib.BALLOON_QUEUES,
        config=bytes(CONFIG_BYTES),
    )
    pci.add(description, device[0])
