"""virtio-net: an interface of the guest, joined with a tap when there is one.

Made with the machine, spare and without a link.  `attach_tap` gives it its address
and its tap, and brings the link up; the driver is told by an interrupt, or reads
the new state if it starts later.
Spec: virtio 1.2 §5.1.
"""

import os
import struct
from collections.abc import Sequence
from typing import Final, NewType, Protocol, cast

from native.ffi import Pointer, VirtioDevice, check, ffi, library
from proto.control import NicArgs
from shim.errors import HostResource, InvalidArgument
from shim.vmm.devices.pci import DeviceDescription, PciBus
from shim.vmm.kvm.part import Part

NetDevice = NewType("NetDevice", object)


class NetLibrary(Protocol):
    """cdef/net.h."""

    def net_device_new(self, pairs: int, ret_device: Pointer, /) -> int: ...
    def net_device_virtio(self, device: NetDevice, /) -> VirtioDevice: ...
    def net_device_features(self, pairs: int, /) -> int: ...
    def net_device_queues(self, pairs: int, /) -> int: ...
    def net_device_attach(
        self,
        device: NetDevice,
        tap_fds: Sequence[int],
        vhost_fds: Sequence[int] | Pointer,
        count: int,
        /,
    ) -> int: ...


lib = cast(NetLibrary, library)

VIRTIO_TYPE: Final = 1
CLASS_CODE: Final = 0x020000  # network, Ethernet
QUEUE_SIZE: Final = 256
"""The size that Linux' own tap backend has."""
CONFIG: Final = struct.Struct("<6sHH")  # mac, status, max_virtqueue_pairs
LINK_UP: Final = 1
MAC_BYTES: Final = 6
LOCAL: Final = 0x02
GROUP: Final = 0x01
"""Bits of a MAC address' first byte (IEEE 802)."""


class Nic(Part):
    """Lives as long as the PciBus that it was added to, which owns the device."""

    def __init__(self, pci: PciBus, index: int, pairs: int) -> None:
        device = ffi.new("struct net_device **")
        check(lib.net_device_new(pairs, device), "net_device_new")
        self._device: NetDevice = device[0]
        self._pci = pci
        self._pairs = pairs
        self.name = f"nic{index}"
        description = DeviceDescription(
            name=self.name,
            virtio_type=VIRTIO_TYPE,
            class_code=CLASS_CODE,
            features=lib.net_device_features(pairs),
            queue_sizes=(QUEUE_SIZE,) * lib.net_device_queues(pairs),
            config=CONFIG.pack(make_spare_mac(index), 0, pairs),
        )
        self._slot = pci.add(description, lib.net_device_virtio(self._device))

    def attach_tap(self, arguments: NicArgs, fds: Sequence[int]) -> None:
        """A tap's queues, and as many of vhost-net or none.  Takes them over on success."""
        mac = parse_mac(arguments.mac)
        taps, vhosts = fds[: self._pairs], fds[self._pairs :]
        if len(taps) != self._pairs or len(vhosts) not in (0, self._pairs):
            raise InvalidArgument(
                f"nic {arguments.nic}: {len(fds)} descriptors for {self._pairs} pairs of queues"
            )
        result = lib.net_device_attach(self._device, taps, vhosts or ffi.NULL, self._pairs)
        if result < 0:
            raise HostResource(f"nic {arguments.nic}: {os.strerror(-result)}")
        self._pci.set_config(self._slot, CONFIG.pack(mac, LINK_UP, self._pairs))


def make_spare_mac(index: int) -> bytes:
    """For an interface without a configuration; it never appears on a network."""
    return bytes((LOCAL, 0, 0, 0, 0, index))


def parse_mac(text: str) -> bytes:
    try:
        mac = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        mac = b""
    if len(mac) != MAC_BYTES or mac[0] & GROUP:
        raise InvalidArgument(f"mac {text!r}: not the address of an interface")
    return mac
