"""The tree of directories that a machine shares with its guest, apart from its image.

    rootfs/<container>       container root file systems
    rootfs/<container>@<n>   volumes that the container has alone
    volumes/<container>/<n>  other volumes

All of these are places: empty directories and files in a file system of the shim's own
(tmpfs), made through a mount of it that only the shim has.  The mount that the machine's
file servers have is read only, whoever they obey, and what a guest may change is mounted
on its places.  So root on the host makes, mounts and removes nothing by a path below what
a guest may change; everything here goes by descriptors.

Blocking; called from worker threads.
"""

import os
import stat
from contextlib import AbstractContextManager, suppress
from threading import Lock
from typing import Final, Self

from shim.errors import HostResource
from shim.host import syscalls
from shim.host.fds import close_all, opened
from shim.host.mounts import HostMount, make_tree, unmount
from shim.machine.sandbox import Sandbox

ROOTFS: Final = "rootfs"
VOLUMES: Final = "volumes"
OPTIONS: Final = {"mode": "0755", "size": "4m", "nr_inodes": "65536"}
"""What is written to it are names alone."""
STRICTLY_BELOW: Final = (
    syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
)
AS_IF_ROOT: Final = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS


class ShareTree:
    """Lifecycle: `make` before the vmm starts; places while it runs; `close` after it.

    Owns the file system; the mounts on its places are their makers'.
    """

    def __init__(self, own: int, shared: int, scratch: str) -> None:
        self._own = own
        self._shared = shared
        self._scratch = scratch
        self._scratching = Lock()
        self._closed = False

    @classmethod
    def make(cls, sandbox: Sandbox) -> Self:
        try:
            own = syscalls.make_file_system("tmpfs", OPTIONS)
            for name in (ROOTFS, VOLUMES):
                os.mkdir(name, 0o755, dir_fd=own)
            # Before Linux 6.15 only what is mounted somewhere can be cloned.
            mount_on(sandbox.tree, own)
            shared = syscalls.clone_tree("", recursive=False, directory=own)
            unmount(own)
            syscalls.set_mount_attributes(
                shared, False, syscalls.MOUNT_ATTR_RDONLY, syscalls.MS_PRIVATE
            )
            tree = cls(own, shared, sandbox.scratch)
            tree.move(sandbox)
        except OSError as error:
            raise HostResource(f"{sandbox.tree}: the shares: {error}") from error
        return tree

    def move(self, sandbox: Sandbox) -> None:
        """To its place in the directory of `sandbox`."""
        mount_on(sandbox.tree, self._shared)
        self._scratch = sandbox.scratch

    def make_tree(self, described: HostMount) -> int:
        """A detached mount: see shim/host/mounts.py."""
        with self._scratching:
            return make_tree(described, self._scratch)

    def add_directory(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        with self._open_own(parent) as directory:
            os.mkdir(name, 0o755, dir_fd=directory)

    def add_place(self, path: str, for_tree: int) -> None:
        """An empty directory or file, whichever `for_tree` can be mounted on."""
        if stat.S_ISDIR(os.fstat(for_tree).st_mode):
            self.add_directory(path)
            return
        parent, _, name = path.rpartition("/")
        with self._open_own(parent) as directory:
            os.mknod(name, stat.S_IFREG | 0o600, dir_fd=directory)

    def remove_place(self, path: str) -> None:
        """Nothing may be mounted on it any more.  Nothing happens if it is not there."""
        if self._closed:
            return
        parent, _, name = path.rpartition("/")
        with suppress(FileNotFoundError), self._open_own(parent) as directory:
            try:
                os.rmdir(name, dir_fd=directory)
            except NotADirectoryError:
                os.unlink(name, dir_fd=directory)

    def open_place(self, path: str, below: str = "") -> int:
        """A descriptor of what is there: the place, or the root of what is mounted on it.

        `below` that: as a process would find it whose root it is.
        """
        place = syscalls.open_path(self._shared, path, os.O_PATH, STRICTLY_BELOW)
        if not below:
            return place
        with opened(place):
            return syscalls.open_path(place, below, os.O_PATH, AS_IF_ROOT)

    def close(self) -> None:
        """What is still mounted below goes with its last user; idempotent."""
        if not self._closed:
            self._closed = True
            unmount(self._shared)
            close_all((self._shared, self._own))

    def _open_own(self, path: str) -> AbstractContextManager[int]:
        return opened(syscalls.open_path(self._own, path, os.O_PATH, STRICTLY_BELOW))


def mount_on(path: str, tree: int) -> None:
    """`path` is a directory that only root can change."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with opened(os.open(path, flags)) as place:
        syscalls.attach_tree(tree, place)
