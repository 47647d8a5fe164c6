"""virtio-vsock: the guest's connections to unix sockets and descriptors of the host.

Configuration, and the two calls that a running machine takes: open a stream, tell
of ended ones.  Bytes move in C, on the device's own thread.
Spec: virtio 1.2 §5.10.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NewType, Protocol, cast

from native.ffi import Pointer, VirtioDevice, check, ffi, library
from proto.contract import GUEST_CID, STREAM_PORT, STREAM_TOKEN_BYTES
from proto.control import Direction, StreamArgs, StreamClosedEvent
from shim.errors import HostResource, InvalidArgument
from shim.vmm.devices.pci import DeviceDescription, PciBus
from shim.vmm.kvm.part import Part

VsockDevice = NewType("VsockDevice", object)


class VsockLibrary(Protocol):
    """cdef/vsock.h."""

    VSOCK_TO_GUEST: int
    VSOCK_FROM_GUEST: int

    def vsock_device_new(self, guest_cid: int, ret_device: Pointer, /) -> int: ...
    def vsock_device_virtio(self, device: VsockDevice, /) -> VirtioDevice: ...
    def vsock_device_listen(
        self, device: VsockDevice, listen_fd: int, guest_port: int, /
    ) -> int: ...
    def vsock_device_open_stream(
        self,
        device: VsockDevice,
        stream: int,
        guest_port: int,
        direction: int,
        fd: int,
        prefix: Pointer,
        prefix_bytes: int,
        /,
    ) -> int: ...
    def vsock_device_connections(self, device: VsockDevice, /) -> int: ...
    def vsock_device_event_fd(self, device: VsockDevice, /) -> int: ...
    def vsock_device_next_event(self, device: VsockDevice, ret_event: Pointer, /) -> int: ...


lib = cast(VsockLibrary, library)

VIRTIO_TYPE: Final = 19
CLASS_CODE: Final = 0x078000  # communication, other
QUEUE_SIZES: Final = (64, 128, 16)
"""rx, tx, event.  The guest keeps the whole rx queue filled, 4 KiB a buffer."""

DESCRIPTION: Final = DeviceDescription(
    name="vsock",
    virtio_type=VIRTIO_TYPE,
    class_code=CLASS_CODE,
    features=0,
    queue_sizes=QUEUE_SIZES,
    config=struct.pack("<Q", GUEST_CID),
)


class Vsock(Part):
    """Lives as long as the PciBus that it was added to, which owns the device."""

    name = "vsock"

    def __init__(self, pci: PciBus, listeners: list[int], ports: Sequence[int]) -> None:
        """Takes the descriptors over, one by one; the caller owns those left in the list."""
        device = ffi.new("struct vsock_device **")
        check(lib.vsock_device_new(GUEST_CID, device), "vsock_device_new")
        self.device: VsockDevice = device[0]
        pci.add(DESCRIPTION, lib.vsock_device_virtio(self.device))
        self.events_fd: int = lib.vsock_device_event_fd(self.device)
        for port in ports:
            check(lib.vsock_device_listen(self.device, listeners[0], port), f"vsock port {port}")
            listeners.pop(0)

    def read_obstacle(self) -> str:
        """Open connections: in a clone they would have no other end."""
        count = lib.vsock_device_connections(self.device)
        return f"the guest has {count} connections open" if count else ""

    def open_stream(self, arguments: StreamArgs, fd: int) -> None:
        """Takes the descriptor over on success."""
        token = decode_token(arguments.token)
        direction = (
            lib.VSOCK_TO_GUEST
            if Direction(arguments.direction) is Direction.TO_GUEST
            else lib.VSOCK_FROM_GUEST
        )
        result = lib.vsock_device_open_stream(
            self.device, arguments.stream, STREAM_PORT, direction, fd, token, len(token)
        )
        if result < 0:
            reason = os.strerror(-result)
            raise HostResource(f"stream {arguments.stream}: {reason}")

    def read_closed(self) -> Iterator[StreamClosedEvent]:
        event = ffi.new("struct vsock_event *")
        while lib.vsock_device_next_event(self.device, event) > 0:
            yield StreamClosedEvent(event.stream, event.bytes, -event.error)


def decode_token(text: str) -> bytes:
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b""
    if len(token) != STREAM_TOKEN_BYTES:
        raise InvalidArgument(f"token {text!r}: not {STREAM_TOKEN_BYTES} bytes in hexadecimal")
    return token
