"""Mounts on the host: from containerd's descriptions to mount(2) and back.

A MountStack owns what it has mounted, in order, and takes it down in reverse.
Blocking; called from worker threads.  Knows no containers.
"""

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shim.host import syscalls

# mount(8) names of mount(2) flags: the bit, and whether the name sets or clears it.
FLAGS: Final[dict[str, tuple[int, bool]]] = {
    "async": (0x10, False),
    "atime": (0x400, False),
    "bind": (0x1000, True),
    "defaults": (0, True),
    "dev": (4, False),
    "diratime": (0x800, False),
    "dirsync": (0x80, True),
    "exec": (8, False),
    "mand": (0x40, True),
    "noatime": (0x400, True),
    "nodev": (4, True),
    "nodiratime": (0x800, True),
    "noexec": (8, True),
    "nomand": (0x40, False),
    "norelatime": (0x200000, False),
    "nostrictatime": (0x1000000, False),
    "nosuid": (2, True),
    "rbind": (0x5000, True),
    "relatime": (0x200000, True),
    "ro": (1, True),
    "rw": (1, False),
    "strictatime": (0x1000000, True),
    "suid": (2, False),
    "sync": (0x10, True),
}
PROPAGATION: Final = frozenset(
    prefix + kind for prefix in ("", "r") for kind in ("private", "slave", "shared", "unbindable")
)
MAX_DATA_BYTES: Final = 4095
"""mount(2) copies one page of options, with its closing NUL."""


@dataclass(frozen=True, slots=True)
class HostMount:
    type: str
    source: str
    target: str = ""
    """Below the directory where it is mounted."""
    options: tuple[str, ...] = ()

    @property
    def is_bind(self) -> bool:
        return self.type == "bind" or not {"bind", "rbind"}.isdisjoint(self.options)


def parse_options(options: tuple[str, ...]) -> tuple[int, str]:
    """mount(2)'s flags and the rest, which is for the file system."""
    flags, data = 0, []
    for option in options:
        if option in PROPAGATION:
            continue
        if option not in FLAGS:
            data.append(option)
            continue
        bit, sets = FLAGS[option]
        flags = flags | bit if sets else flags & ~bit
    return flags, ",".join(data)


@dataclass(slots=True)
class MountStack:
    """Mounts in the order in which they were made; `unmount_all` is idempotent."""

    targets: list[str] = field(default_factory=list)

    def mount(self, described: HostMount, target: str) -> None:
        if described.is_bind:
            read_only = "ro" in described.options
            self.bind(described.source, target, read_only, "rbind" in described.options)
            return
        flags, data = parse_options(described.options)
        with ExitStack() as opened:
            if len(data.encode()) > MAX_DATA_BYTES:
                data = shorten_paths(data, opened)
            syscalls.mount(described.source, target, described.type, flags, data)
        self.targets.append(target)

    def bind(self, source: str, target: str, read_only: bool, recursive: bool) -> None:
        """A bind mount that is read only, if asked for, from its first instant."""
        tree = syscalls.clone_tree(source, recursive)
        try:
            attributes = syscalls.MOUNT_ATTR_RDONLY if read_only else 0
            syscalls.set_mount_attributes(tree, recursive, attributes, syscalls.MS_SLAVE)
            syscalls.attach_tree(tree, target)
        finally:
            os.close(tree)
        self.targets.append(target)

    def unmount_all(self) -> None:
        """Unmounts in reverse; a busy mount is detached and goes with its last user."""
        while self.targets:
            unmount(self.targets[-1])
            self.targets.pop()


def unmount(target: str) -> None:
    try:
        syscalls.umount(target)
    except OSError as error:
        if error.errno == errno.EBUSY:
            syscalls.umount(target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        elif error.errno not in (errno.EINVAL, errno.ENOENT):  # not mounted any more
            raise


def shorten_paths(data: str, opened: ExitStack) -> str:
    """overlay's options with each directory as /proc/self/fd/N, open until `opened` ends.

    So a few hundred layers fit into the page that mount(2) takes.
    """
    return ",".join(_shorten_option(option, opened) for option in data.split(","))


def _shorten_option(option: str, opened: ExitStack) -> str:
    name, equals, value = option.partition("=")
    if not equals or name not in ("lowerdir", "upperdir", "workdir"):
        return option
    paths = value.split(":") if name == "lowerdir" else [value]
    return f"{name}={':'.join(_open_path(path, opened) for path in paths)}"


def _open_path(path: str, opened: ExitStack) -> str:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return f"/proc/self/fd/{descriptor}"


def make_mount_point(source: str, target: str) -> None:
    """An empty directory or file at `target`, whichever `source` can be bound on."""
    if Path(source).is_dir():
        os.mkdir(target, 0o755)
        return
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
