"""System calls that Python 3.11 does not wrap, by libc through ctypes.

Owns no state.  Constants name their UAPI header.
"""

import ctypes
import os
from typing import Final

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8

PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
RB_AUTOBOOT: Final = 0x01234567

IN_MODIFY: Final = 0x2  # linux/inotify.h
IN_IGNORED: Final = 0x8000
IN_NONBLOCK: Final = os.O_NONBLOCK
IN_CLOEXEC: Final = os.O_CLOEXEC

SYS_FINIT_MODULE: Final = 313  # asm/unistd_64.h
SYS_OPENAT2: Final = 437
RESOLVE_NO_MAGICLINKS: Final = 0x2  # linux/openat2.h
RESOLVE_IN_ROOT: Final = 0x10

_libc = ctypes.CDLL(None, use_errno=True)


class OpenHow(ctypes.Structure):
    """struct open_how of linux/openat2.h."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class Timex(ctypes.Structure):
    """struct timex of linux/timex.h; `seconds` and `subseconds` are its `time`."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("subseconds", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def check(result: int, what: str, path: str = "") -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}", path or None)
    return result


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    check(result, f"mount {kind}", target)


def sync_file_system(path: str) -> None:
    """Writes back all dirty data of the file system that holds the file or directory; may
    take long."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except NotADirectoryError:
        fd = os.open(os.path.dirname(path), flags)
    try:
        check(_libc.syncfs(fd), "syncfs", path)
    finally:
        os.close(fd)


def exists_in_root(root: str, path: str) -> bool:
    """Whether a process with `root` as its root would find `path`."""
    how = OpenHow(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    try:
        directory = os.open(root, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    name, size = os.fsencode(path), ctypes.sizeof(how)
    fd = _libc.syscall(SYS_OPENAT2, directory, name, ctypes.byref(how), ctypes.c_size_t(size))
    os.close(directory)
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


def load_module(path: str) -> None:
    with open(path, "rb", buffering=0) as file:
        result = _libc.syscall(SYS_FINIT_MODULE, file.fileno(), b"", 0)
    check(result, "finit_module", path)


def become_subreaper() -> None:
    """Orphans below this process become its children, as they always do for PID 1."""
    check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def reboot(command: int) -> None:
    check(_libc.reboot(ctypes.c_int(command)), "reboot")


def open_inotify() -> int:
    return check(_libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC), "inotify_init1")


def add_watch(inotify_fd: int, path: str, events: int) -> int:
    """Returns a watch descriptor; it ends by itself when the file is removed."""
    return check(
        _libc.inotify_add_watch(inotify_fd, os.fsencode(path), events), "inotify_add_watch", path
    )


def remove_watch(inotify_fd: int, watch: int) -> None:
    check(_libc.inotify_rm_watch(inotify_fd, watch), "inotify_rm_watch")


def adjust_clock(change: Timex) -> None:
    """adjtimex(2) of CLOCK_REALTIME; `change` holds the kernel's values afterwards."""
    check(_libc.adjtimex(ctypes.byref(change)), "adjtimex")
