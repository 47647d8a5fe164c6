"""A container's files on the host: its root and its volumes, mounted in the shares.

Owns the mounts and their places: rootfs/<id>, rootfs/<id>@<n> (exclusive volumes)
and volumes/<id>/<n> of the machine's ShareTree.
Blocking: called from worker threads, one call at a time for a container.
"""

import errno
from collections.abc import Sequence
from typing import Final

from shim.errors import HostResource, InvalidArgument
from shim.host.fds import opened
from shim.host.mounts import HostMount, bind_tree
from shim.machine.shares import ShareTree
from shim.oci.mounts import Volume

UNSUPPORTED_OPTIONS: Final = frozenset(("loop",))
UNSUPPORTED_PREFIXES: Final = ("format/", "mkfs/", "mkdir/")
ROOTFS: Final = "rootfs"
VOLUMES: Final = "volumes"
MISSING: Final = frozenset((errno.ENOENT, errno.ENOTDIR))


class ContainerFiles:
    """Lifecycle: `mount`, which undoes itself when it fails; `unmount`, idempotent."""

    def __init__(self, shares: ShareTree, container_id: str) -> None:
        self._shares = shares
        self._id = container_id
        self._rootfs = f"{ROOTFS}/{container_id}"
        self._places: list[str] = []

    def mount(self, rootfs: Sequence[HostMount], volumes: Sequence[Volume]) -> None:
        try:
            self._add_directory(self._rootfs)
            for index, described in enumerate(rootfs):
                self._mount_root(described, f"rootfs[{index}]")
            if volumes:
                self._add_directory(f"{VOLUMES}/{self._id}")
            for volume in volumes:
                self._bind_volume(volume)
        except BaseException:
            self.unmount()
            raise

    def unmount(self) -> None:
        """A mount that is in use ends with its last user."""
        while self._places:
            self._shares.remove_place(self._places[-1])
            self._places.pop()

    def _add_directory(self, path: str) -> None:
        self._shares.add_directory(path)
        self._places.append(path)

    def _mount_root(self, described: HostMount, field: str) -> None:
        check_supported(described, field)
        try:
            with opened(self._shares.make_tree(described)) as tree:
                self._shares.mount(tree, self._rootfs, described.target.strip("/"))
        except OSError as error:
            raise HostResource(
                f"{field}: cannot mount {described.type} {described.source}: {error.strerror}"
            ) from error

    def _bind_volume(self, volume: Volume) -> None:
        path = f"{ROOTFS if volume.exclusive else VOLUMES}/{volume.name(self._id)}"
        try:
            with opened(bind_tree(volume.source, volume.read_only, volume.recursive)) as tree:
                self._shares.add_place(path, tree)
                self._places.append(path)
                self._shares.mount(tree, path)
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
