"""From containerd's descriptions of mounts to detached trees.

A tree is a descriptor of a mount's root (open_tree(2)); the mount lives as long as it, or as
it is mounted somewhere.  Blocking; called from worker threads.  Knows no containers.
"""

import os
from contextlib import ExitStack
from dataclasses import dataclass
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
FOR_FILE_SERVERS: Final = (
    syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
)
"""Files are read and written through these mounts.  Even a file server that was taken over
can open no device and run no program there: the guest's kernel does that."""
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


def make_tree(described: HostMount, scratch: str) -> int:
    """The mount that `described` describes, detached.

    `scratch`: an empty directory that nobody else uses meanwhile.  mount(2) takes only
    paths, and fsconfig(2) no options as long as overlay's.
    """
    if described.is_bind:
        read_only = "ro" in described.options
        return bind_tree(described.source, read_only, "rbind" in described.options)
    flags, data = parse_options(described.options)
    with ExitStack() as opened:
        if len(data.encode()) > MAX_DATA_BYTES:
            data = shorten_paths(data, opened)
        syscalls.mount(described.source, scratch, described.type, flags, data)
    try:
        tree = syscalls.clone_tree(scratch, recursive=False)
    finally:
        syscalls.umount(scratch, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
    return restrict(tree, False, FOR_FILE_SERVERS, syscalls.MS_PRIVATE)


def bind_tree(source: str, read_only: bool, recursive: bool) -> int:
    """A bind mount; a read-only one is so from its first instant.

    Later mounts of the host below `source` appear in it, once it is mounted somewhere.
    """
    tree = syscalls.clone_tree(source, recursive)
    attributes = FOR_FILE_SERVERS | (syscalls.MOUNT_ATTR_RDONLY if read_only else 0)
    return restrict(tree, recursive, attributes, syscalls.MS_SLAVE)


def restrict(tree: int, recursive: bool, attributes: int, propagation: int) -> int:
    """Returns `tree`; closes it on failure."""
    try:
        syscalls.set_mount_attributes(tree, recursive, attributes, propagation)
    except BaseException:
        os.close(tree)
        raise
    return tree


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
