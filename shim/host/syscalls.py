"""System calls that Python 3.11 does not have, as plain functions.

Owns nothing; every failure is an OSError with the call's name and the path.
Numbers are those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl), flags
those of linux/close_range.h, linux/mount.h, linux/openat2.h, linux/prctl.h and linux/sched.h.
"""

import ctypes
import os
from contextlib import suppress
from typing import Any, Final

NR_OPEN_TREE: Final = 428
NR_MOVE_MOUNT: Final = 429
NR_FSOPEN: Final = 430
NR_FSCONFIG: Final = 431
NR_FSMOUNT: Final = 432
NR_BPF: Final = 321
NR_CLOSE_RANGE: Final = 436
NR_OPENAT2: Final = 437
NR_MOUNT_SETATTR: Final = 442

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 4
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
FSOPEN_CLOEXEC: Final = 1
FSMOUNT_CLOEXEC: Final = 1
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_CMD_CREATE: Final = 6
RESOLVE_NO_MAGICLINKS: Final = 2
RESOLVE_NO_SYMLINKS: Final = 4
RESOLVE_BENEATH: Final = 8
RESOLVE_IN_ROOT: Final = 0x10

MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

CLOSE_RANGE_UNSHARE: Final = 2
CLOSE_RANGE_CLOEXEC: Final = 4
CLONE_FS: Final = 0x200
CLONE_NEWNS: Final = 0x20000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
PR_SET_NAME: Final = 15
PR_SET_MM: Final = 35
PR_SET_MM_ARG_START: Final = 8
PR_SET_MM_ARG_END: Final = 9
PR_SET_CHILD_SUBREAPER: Final = 36


class MountAttr(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class OpenHow(ctypes.Structure):
    """struct open_how."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class CapabilityHeader(ctypes.Structure):
    """struct __user_cap_header_struct."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


CAPABILITY_VERSION: Final = 0x20080522
CapabilitySets = ctypes.c_uint32 * 6
"""struct __user_cap_data_struct twice: effective, permitted and inheritable, the low 32 bits
of each, then the high ones."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_command_line: "ctypes.Array[ctypes.c_char] | None" = None


def _check(result: int, call: str, path: str = "") -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}", path or None)
    return result


def _syscall(call: str, number: int, path: str, *arguments: Any) -> int:
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), call, path)


def bpf(command: int, attributes: bytes) -> int:
    """`attributes`: the part of union bpf_attr that the command has."""
    size = ctypes.c_uint(len(attributes))
    return _syscall("bpf", NR_BPF, "", ctypes.c_int(command), attributes, size)


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    result = _libc.mount(
        source.encode(),
        target.encode(),
        fstype.encode(),
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {fstype or 'flags'}", target)


def umount(target: str, flags: int = UMOUNT_NOFOLLOW) -> None:
    _check(_libc.umount2(target.encode(), flags), "umount2", target)


def make_file_system(fstype: str, options: dict[str, str]) -> int:
    """A new file system, detached, as a descriptor of its root."""
    context = _syscall("fsopen", NR_FSOPEN, "", fstype.encode(), ctypes.c_uint(FSOPEN_CLOEXEC))
    try:
        for name, value in options.items():
            _configure(context, FSCONFIG_SET_STRING, name.encode(), value.encode())
        _configure(context, FSCONFIG_CMD_CREATE, None, None)
        flags = ctypes.c_uint(FSMOUNT_CLOEXEC)
        return _syscall("fsmount", NR_FSMOUNT, "", ctypes.c_int(context), flags, ctypes.c_uint(0))
    finally:
        os.close(context)


def _configure(context: int, command: int, key: bytes | None, value: bytes | None) -> None:
    _syscall(
        "fsconfig",
        NR_FSCONFIG,
        "",
        ctypes.c_int(context),
        ctypes.c_uint(command),
        ctypes.c_char_p(key),
        ctypes.c_char_p(value),
        ctypes.c_int(0),
    )


def open_path(directory: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2) with O_CLOEXEC; `resolve`: RESOLVE_*."""
    how = OpenHow(flags=flags | os.O_CLOEXEC, resolve=resolve)
    return _syscall(
        "openat2",
        NR_OPENAT2,
        path,
        ctypes.c_int(directory),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )


def clone_tree(source: str, recursive: bool, directory: int = AT_FDCWD) -> int:
    """A detached copy of the mount at `source`, as an fd; "": of `directory` itself."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    if not source:
        flags |= AT_EMPTY_PATH
    return _syscall(
        "open_tree",
        NR_OPEN_TREE,
        source,
        ctypes.c_int(directory),
        ctypes.c_char_p(os.fsencode(source)),
        ctypes.c_uint(flags),
    )


def set_mount_attributes(tree: int, recursive: bool, attr_set: int, propagation: int) -> None:
    attributes = MountAttr(attr_set=attr_set, propagation=propagation)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(
        "mount_setattr",
        NR_MOUNT_SETATTR,
        "",
        ctypes.c_int(tree),
        ctypes.c_char_p(b""),
        ctypes.c_uint(flags),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )


def attach_tree(tree: int, place: int) -> None:
    """Mounts `tree`, detached or mounted elsewhere, on `place`; both are descriptors."""
    _syscall(
        "move_mount",
        NR_MOVE_MOUNT,
        "",
        ctypes.c_int(tree),
        ctypes.c_char_p(b""),
        ctypes.c_int(place),
        ctypes.c_char_p(b""),
        ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
    )


def enter_mount_namespace() -> None:
    """A mount namespace of our own that still follows the host's mounts and unmounts.

    Only before the process has a second thread.
    """
    _check(_libc.unshare(CLONE_NEWNS), "unshare CLONE_NEWNS")
    mount("", "/", "", MS_REC | MS_SLAVE, "")


def unshare_network() -> None:
    """A new network namespace for the calling thread."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare CLONE_NEWNET")


def unshare_processes() -> None:
    """Children of the calling thread are in a new pid namespace, the first one its init."""
    _check(_libc.unshare(CLONE_NEWPID), "unshare CLONE_NEWPID")


def enter_namespace_of_processes(fd: int) -> None:
    """For children of the calling thread."""
    _check(_libc.setns(fd, CLONE_NEWPID), "setns CLONE_NEWPID")


def enter_network_namespace(fd: int) -> None:
    """For the calling thread."""
    _check(_libc.setns(fd, CLONE_NEWNET), "setns CLONE_NEWNET")


def enter_namespace_of_mounts(fd: int) -> None:
    """For the calling thread, which then shares root and working directory with no other."""
    _check(_libc.unshare(CLONE_FS), "unshare CLONE_FS")
    _check(_libc.setns(fd, CLONE_NEWNS), "setns CLONE_NEWNS")


def give_up_descriptors(first: int) -> None:
    """The calling thread gets a table of descriptors of its own, in which all from `first` on
    are closed by an exec."""
    flags = ctypes.c_uint(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)
    numbers = (ctypes.c_uint(first), ctypes.c_uint(0xFFFFFFFF))
    _syscall("close_range", NR_CLOSE_RANGE, "", *numbers, flags)


def keep_capabilities(mask: int) -> None:
    """Drops all others of the calling thread; none is inheritable."""
    header, now = CapabilityHeader(CAPABILITY_VERSION, 0), CapabilitySets()
    _check(_libc.capget(ctypes.byref(header), now), "capget")
    low, high = now[1] & mask, now[4] & mask >> 32
    kept = CapabilitySets(low, low, 0, high, high, 0)
    _check(_libc.capset(ctypes.byref(header), kept), "capset")


def set_process_name(name: str) -> None:
    _prctl("PR_SET_NAME", PR_SET_NAME, ctypes.c_char_p(name.encode()))


def set_command_line(words: list[str]) -> None:
    """What ps(1) shows of this process; left as it is without CAP_SYS_RESOURCE."""
    global _command_line
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    old, _command_line = _command_line, ctypes.create_string_buffer(text, len(text))
    start = ctypes.addressof(_command_line)
    bounds = [(PR_SET_MM_ARG_START, start), (PR_SET_MM_ARG_END, start + len(text))]
    # Hazard: the start must never be above the end, not even between two calls.
    if old is not None and ctypes.addressof(old) < start:
        bounds.reverse()
    with suppress(PermissionError):
        for option, address in bounds:
            _prctl("PR_SET_MM", PR_SET_MM, ctypes.c_ulong(option), ctypes.c_ulong(address))


def set_child_subreaper() -> None:
    _prctl("PR_SET_CHILD_SUBREAPER", PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def _prctl(call: str, option: int, *arguments: Any) -> None:
    nothing = (ctypes.c_ulong(0),) * (4 - len(arguments))
    _check(_libc.prctl(option, *arguments, *nothing), f"prctl {call}")
