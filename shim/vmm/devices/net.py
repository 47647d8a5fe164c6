"""virtio-net: an interface of the guest, joined with a tap when there is one.

Made with the machine and without a link: a spare one.  `attach` gives it its
address and its tap, and brings the link up; the driver hears of that by an
interrupt, or finds it so when it comes later.
Spec: virtio 1.2 §5.1.
"""

import os
import struct
from typing import Final

from native.ffi import NetDevice, check, ffi, lib
from proto.control import NicArgs
from shim.errors import HostResource, InvalidArgument
from shim.vmm.devices.pci import DeviceDescription, PciBus

VIRTIO_TYPE: Final = 1
CLASS_CODE: Final = 0x020000  # network, Ethernet
QUEUE_SIZES: Final = (256, 256)
"""receive, transmit: what Linux' own tap backend has."""
CONFIG: Final = struct.Struct("<6sH")  # mac, status
LINK_UP: Final = 1
MAC_BYTES: Final = 6
LOCAL: Final = 0x02
GROUP: Final = 0x01
"""Bits of a MAC address' first byte (IEEE 802)."""


class Nic:
    """Lives as long as the PciBus that it was added to, which owns the device."""

    def __init__(self, pci: PciBus, index: int) -> None:
        device = ffi.new("struct net_device **")
        check(lib.net_device_new(device), "net_device_new")
        self._device: NetDevice = device[0]
        self._pci = pci
        description = DeviceDescription(
            name=f"nic{index}",
            virtio_type=VIRTIO_TYPE,
            class_code=CLASS_CODE,
            features=lib.net_device_features(),
            queue_sizes=QUEUE_SIZES,
            config=CONFIG.pack(make_spare_mac(index), 0),
        )
        self._slot = pci.add(description, lib.net_device_virtio(self._device))

    def attach(self, arguments: NicArgs, tap_fd: int) -> None:
        """Takes the descriptor over on success."""
        mac = parse_mac(arguments.mac)
        result = lib.net_device_attach(self._device, tap_fd)
        if result < 0:
            raise HostResource(f"nic {arguments.nic}: {os.strerror(-result)}")
        self._pci.set_config(self._slot, CONFIG.pack(mac, LINK_UP))


def make_spare_mac(index: int) -> bytes:
    """Of an interface that nothing is said of yet; the guest never shows it to anyone."""
    return bytes((LOCAL, 0, 0, 0, 0, index))


def parse_mac(text: str) -> bytes:
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != MAC_BYTES or mac[0] & GROUP:
        raise InvalidArgument(f"mac {text!r}: not the address of an interface")
    return mac
