"""The tree of directories that a machine shares with its guest.

    image/ proc/             the guest's own root; /proc, by which file servers reopen files
    rootfs/<container>       container root file systems
    rootfs/<container>@<n>   exclusive volumes
    volumes/<container>/<n>  other volumes

It is a tmpfs of the shim's own, and the vmm's root in its jail, where its mount is read
only even for a vmm that was taken over.  The shim makes places in it, empty directories and
files, through another mount that nobody else has, and mounts on them what the guest may
change.  So root on the host makes, mounts and removes nothing by a path below what a guest
may change, and no path from there leads out of the tree.

Blocking; called from worker threads.
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from threading import Lock
from typing import Final, Self

from proto.control import SHARED_IMAGE, SHARED_ROOTFS, SHARED_VOLUMES
from shim.errors import HostResource
from shim.host import syscalls
from shim.host.fds import close_all, opened
from shim.host.mount_namespace import run_inside
from shim.host.mounts import HostMount, make_tree
from shim.machine.directory import SandboxDirectory

DIRECTORIES: Final = (SHARED_IMAGE, SHARED_ROOTFS, SHARED_VOLUMES, "/proc")
OPTIONS: Final = {"mode": "0755", "size": "4m", "nr_inodes": "65536"}
"""It holds only names: empty directories and files."""
STRICTLY_BELOW: Final = (
    syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
)
AS_IF_ROOT: Final = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS


class ShareTree:
    """Lifecycle: `make`; `shared` is sent to the vmm, whose root it becomes; `adopt`; places
    and mounts; `close`, and what is still mounted ends with the vmm.

    Paths are relative to the tree.
    """

    def __init__(self, own: int, shared: int, scratch: str) -> None:
        self.shared = shared
        """Detached until it is the vmm's root.  This object owns it."""
        self.scratch = scratch
        self._own = own
        self._namespace = -1
        self._lock = Lock()  # for the scratch directory
        self._closed = False

    @classmethod
    def make(cls, sandbox: SandboxDirectory) -> Self:
        """Needs a mount namespace of the caller's own: the tree is mounted there briefly."""
        try:
            own = syscalls.make_file_system("tmpfs", OPTIONS)
            for name in DIRECTORIES:
                os.mkdir(name[1:], 0o755, dir_fd=own)
            return cls(own, clone_read_only(own, sandbox.tree), sandbox.scratch)
        except OSError as error:
            raise HostResource(f"{sandbox.tree}: the shares: {error}") from error

    def adopt(self, vmm: int) -> None:
        """The process `vmm` has made the tree its root: it sees what is mounted from now on.

        HostResource for one that has another root, as a vmm that was taken over may.
        """
        process = f"/proc/{vmm}"
        try:
            self._namespace = os.open(f"{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            root = os.stat(f"{process}/root")
        except OSError as error:
            raise HostResource(f"{process}: {error.strerror}") from error
        if not os.path.samestat(root, os.fstat(self.shared)):
            raise HostResource(f"the vmm, process {vmm}, has not made the shares its root")

    def make_tree(self, described: HostMount) -> int:
        """A detached mount: see shim/host/mounts.py."""
        with self._lock:
            return make_tree(described, self.scratch)

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
        """Also detaches what is mounted on it, which ends with its last user; idempotent."""
        if self._closed:
            return
        if self._namespace >= 0:
            self._inside(lambda: detach_all(path))
        parent, _, name = path.rpartition("/")
        with suppress(FileNotFoundError), self._open_own(parent) as directory:
            try:
                os.rmdir(name, dir_fd=directory)
            except NotADirectoryError:
                os.unlink(name, dir_fd=directory)

    def mount(self, tree: int, path: str, below: str = "") -> None:
        """On the place `path`; or on the path `below` of what is mounted there, resolved as
        by a process with that mount as its root."""
        with self._open_place(path, below) as place:
            self._inside(lambda: syscalls.attach_tree(tree, place))

    def close(self) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            close_all(fd for fd in (self._own, self.shared, self._namespace) if fd >= 0)

    def _open_own(self, path: str) -> AbstractContextManager[int]:
        return opened(syscalls.open_path(self._own, path, os.O_PATH, STRICTLY_BELOW))

    def _open_place(self, path: str, below: str) -> AbstractContextManager[int]:
        place = syscalls.open_path(self.shared, path, os.O_PATH, STRICTLY_BELOW)
        if not below:
            return opened(place)
        with opened(place):
            return opened(syscalls.open_path(place, below, os.O_PATH, AS_IF_ROOT))

    def _inside(self, work: Callable[[], None]) -> None:
        """In the vmm's mount namespace, with the tree as working directory."""

        def run() -> None:
            os.fchdir(self.shared)
            work()

        run_inside(self._namespace, run)


def clone_read_only(tree: int, place: str) -> int:
    """A detached copy of a detached mount.

    Before Linux 6.15 only what is attached can be cloned: `place`, a directory, is used.
    """
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    with opened(os.open(place, flags)) as directory:
        syscalls.attach_tree(tree, directory)
    try:
        clone = syscalls.clone_tree("", recursive=False, directory=tree)
    finally:
        syscalls.umount(place, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    syscalls.set_mount_attributes(clone, False, syscalls.MOUNT_ATTR_RDONLY, syscalls.MS_PRIVATE)
    return clone


def detach_all(path: str) -> None:
    """All that is mounted there, if anything; in the tree, where only the shim makes names."""
    try:
        while True:
            syscalls.umount(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
