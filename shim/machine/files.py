"""A container's files on the host: its root and its volumes, below the shares.

Owns the mounts at rootfs/<id>, rootfs/<id>@<n> (volumes that the container has alone)
and volumes/<id>/<n> of a sandbox's directory.
Blocking: called from worker threads, one call at a time for a container.
"""

import errno
import os
from collections.abc import Sequence
from typing import Final

from shim.errors import HostResource, InvalidArgument
from shim.host.mounts import HostMount, MountStack, make_mount_point
from shim.machine.directory import SandboxDirectory, remove_mount_point
from shim.oci.mounts import Volume

UNSUPPORTED_OPTIONS: Final = frozenset(("loop",))
UNSUPPORTED_PREFIXES: Final = ("format/", "mkfs/", "mkdir/")
MISSING: Final = frozenset((errno.ENOENT, errno.ENOTDIR))


class ContainerFiles:
    """Lifecycle: `mount`, which undoes itself when it fails; `unmount`, idempotent."""

    def __init__(self, sandbox: SandboxDirectory, container_id: str) -> None:
        self._sandbox = sandbox
        self._id = container_id
        self._rootfs = f"{sandbox.rootfs_dir}/{container_id}"
        self._volumes = f"{sandbox.volumes_dir}/{container_id}"
        self._targets: list[str] = []
        self._mounts = MountStack()

    def mount(self, rootfs: Sequence[HostMount], volumes: Sequence[Volume]) -> None:
        try:
            os.mkdir(self._rootfs, 0o755)
            for index, described in enumerate(rootfs):
                self._mount_root(described, f"rootfs[{index}]")
            if volumes:
                os.mkdir(self._volumes, 0o755)
            for volume in volumes:
                self._bind_volume(volume)
        except BaseException:
            self.unmount()
            raise

    def unmount(self) -> None:
        self._mounts.unmount_all()
        for path in (*self._targets, self._volumes, self._rootfs):
            remove_mount_point(path)

    def _mount_root(self, described: HostMount, field: str) -> None:
        check_supported(described, field)
        target = os.path.join(self._rootfs, described.target.lstrip("/"))
        try:
            self._mounts.mount(described, target)
        except OSError as error:
            raise HostResource(
                f"{field}: cannot mount {described.type} {described.source}: {error.strerror}"
            ) from error

    def _bind_volume(self, volume: Volume) -> None:
        sandbox = self._sandbox
        share = sandbox.rootfs_dir if volume.exclusive else sandbox.volumes_dir
        target = f"{share}/{volume.name(self._id)}"
        self._targets.append(target)
        try:
            make_mount_point(volume.source, target)
            self._mounts.bind(volume.source, target, volume.read_only, volume.recursive)
        except OSError as error:
            category = InvalidArgument if error.errno in MISSING else HostResource
            raise category(f"{volume.field}: {volume.source}: {error.strerror}") from error


def check_supported(described: HostMount, field: str) -> None:
    """Mounts that need more than mount(2) are refused by name."""
    if described.type.startswith(UNSUPPORTED_PREFIXES):
        raise InvalidArgument(f"{field}.type: {described.type!r} is not supported")
    for option in described.options:
        if option in UNSUPPORTED_OPTIONS:
            raise InvalidArgument(
                f"{field}.options: {option!r} for {described.source!r} is not supported"
            )
