"""virtio-fs: a directory of the host as a file system of the guest.

Configuration only: tag, queues, and what the guest may cache by the share's
policy.  Requests are served in C, on the device's own threads.
Spec: virtio 1.2 §5.11.
"""

import os
import struct
from typing import Any, Final, NewType, Protocol, cast

from native.ffi import Pointer, VirtioDevice, check, ffi, library
from proto.control import Share, SharePolicy
from shim.errors import HostResource, InvalidArgument
from shim.vmm.devices.pci import DeviceDescription, PciBus
from shim.vmm.kvm.opaque import take_bytes
from shim.vmm.kvm.part import Part, PartState

FuseServer = NewType("FuseServer", object)


class FsLibrary(Protocol):
    """cdef/fuse.h."""

    FUSE_OPCODES: int

    def fuse_server_new(self, config: Pointer, ret_server: Pointer, /) -> int: ...
    def fuse_server_free(self, server: FuseServer, /) -> None: ...
    def fs_device_new(
        self,
        server: FuseServer,
        request_queues: int,
        worker_count: int,
        ret_device: Pointer,
        /,
    ) -> int: ...
    def fs_device_save(self, device: VirtioDevice, buffer: Pointer, size: int, /) -> int: ...
    def fs_device_restore(self, device: VirtioDevice, state: Pointer, size: int, /) -> int: ...
    def fs_device_counters(self, device: VirtioDevice, ret_counts: Pointer, /) -> None: ...


lib = cast(FsLibrary, library)

VIRTIO_TYPE: Final = 26
CLASS_CODE: Final = 0x018000  # mass storage, other
TAG_BYTES: Final = 36
REQUEST_QUEUES: Final = 1
HIPRIO_QUEUE_SIZE: Final = 64
REQUEST_QUEUE_SIZE: Final = 512
"""Linux sends requests of at most this many pages less four: enough for its 1 MiB."""
WORKERS: Final = {SharePolicy.IMAGE: 1, SharePolicy.EXCLUSIVE: 2, SharePolicy.SHARED: 2}
LONG_VALIDITY_NS: Final = 24 * 3600 * 1_000_000_000
SHORT_VALIDITY_NS: Final = 1_000_000
"""One or two ticks of the guest's timer.  With 0 the guest requests each step of each path
twice in every system call: CPython's test_os then sends 734,000 requests, and 15,000
with this.  Hazard: for so long a guest may see a file's old state."""
KEEP_AFTER_NS: Final = 60 * 1_000_000_000
"""A shared file that has not changed for so long is not read again at each open.  Twice the
time until Linux writes back a page that was changed through a mapping: after that the next
such change gives the file a new ctime (vm.dirty_expire_centisecs)."""


class FsDevice(Part):
    """Lives as long as the PciBus that it was added to, which owns the model."""

    def __init__(self, pci: PciBus, share: Share) -> None:
        description = describe_fs(share)
        self.name = f"share {share.tag}"
        self.tag = share.tag
        self.model = open_fs_model(share)
        pci.add(description, self.model)

    def save(self) -> PartState:
        """Which files the guest knows."""
        size = check(lib.fs_device_save(self.model, ffi.NULL, 0), self.tag)
        state = ffi.new("uint8_t[]", size)
        check(lib.fs_device_save(self.model, state, size), self.tag)
        return {"session": take_bytes(state)}

    def restore(self, state: PartState) -> None:
        """Before the bus starts the device."""
        session = state["session"]
        check(lib.fs_device_restore(self.model, session, len(session)), self.tag)

    def read_counters(self) -> dict[str, Any]:
        return {"requests": {self.tag: self.read_requests()}}

    def read_requests(self) -> dict[str, int]:
        """The number of requests by FUSE opcode, without zeros."""
        counts = ffi.new("uint64_t[]", lib.FUSE_OPCODES)
        lib.fs_device_counters(self.model, counts)
        return {str(opcode): count for opcode, count in enumerate(counts) if count}


def describe_fs(share: Share) -> DeviceDescription:
    tag = share.tag.encode()
    if not 0 < len(tag) <= TAG_BYTES:
        raise InvalidArgument(f"share tag {share.tag!r}: must have 1 to {TAG_BYTES} bytes")
    return DeviceDescription(
        name=share.tag,
        virtio_type=VIRTIO_TYPE,
        class_code=CLASS_CODE,
        features=0,
        queue_sizes=(HIPRIO_QUEUE_SIZE,) + (REQUEST_QUEUE_SIZE,) * REQUEST_QUEUES,
        config=struct.pack(f"<{TAG_BYTES}sI", tag, REQUEST_QUEUES),
    )


def open_fs_model(share: Share) -> VirtioDevice:
    """The device model; PciBus.add takes it over."""
    server = ffi.new("struct fuse_server **")
    root_fd = open_share(share)
    try:
        check(lib.fuse_server_new(configure(share.policy, root_fd), server), "fuse_server_new")
    finally:
        os.close(root_fd)
    model = ffi.new("struct virtio_device **")
    result = lib.fs_device_new(server[0], REQUEST_QUEUES, WORKERS[share.policy], model)
    if result < 0:
        lib.fuse_server_free(server[0])
    check(result, "fs_device_new")
    made: VirtioDevice = model[0]
    return made


def open_share(share: Share) -> int:
    try:
        return os.open(share.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostResource(f"share {share.tag}: {share.path}: {error.strerror}") from error


def configure(policy: SharePolicy, root_fd: int) -> Pointer:
    """A guest changes what the host has mounted in a share, never the share's own directories:
    `own_mount_writable` stays false."""
    config = ffi.new("struct fuse_server_config *")
    alone = policy is not SharePolicy.SHARED
    config.root_fd = root_fd
    config.read_only = policy is SharePolicy.IMAGE
    config.exclusive = alone
    valid_ns = LONG_VALIDITY_NS if alone else SHORT_VALIDITY_NS
    config.entry_valid_ns = config.attr_valid_ns = valid_ns
    config.keep_after_ns = 0 if alone else KEEP_AFTER_NS
    # A container's root may have an overlay's upper directory in it (trusted.overlay.*).
    config.privileged_attributes = policy is SharePolicy.EXCLUSIVE
    config.announce_submounts = policy is not SharePolicy.IMAGE
    return config
