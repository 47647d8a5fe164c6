"""The system calls that each kind of thread of a vmm may make once its guest runs.

One table, for people and for shim/vmm/jail/filters.py; tests compare it with what the
end-to-end tests use.  Pure.  A call is allowed with any arguments, or with given values
of one argument.  A call that is not here ends the process (SIGSYS).

Kinds: native/src/jail.h.  Numbers of ioctls are looked up by their names.
"""

import errno
from enum import IntEnum
from typing import Final, NamedTuple


class Kind(IntEnum):
    """enum jail_kind of native/src/jail.h."""

    MAIN = 0
    VCPU = 1
    FILES = 2
    STREAMS = 3
    NETWORK = 4
    MEMORY = 5
    THREADS = 6


class Allowed(NamedTuple):
    """A call with one of `values` as its argument number `argument`, from 0 on, which is
    masked first.  A value that is a text is the name of a constant of the kernel's."""

    call: str
    argument: int
    values: tuple[int | str, ...]
    mask: int = (1 << 32) - 1
    """The kernel reads 32 bits of every argument in this table."""


class Refused(NamedTuple):
    """A call that fails with `error`, for libc to make another one instead."""

    call: str
    error: int


Rule = str | Allowed | Refused

PROT_EXEC: Final = 4
CLONE_FS: Final = 0x200
CLONE_THREAD_FLAGS: Final = 0x3D0F00
"""VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID and CHILD_CLEARTID: the
flags of glibc's pthread_create."""
PR_SET_NAME: Final = 15
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_SET_MODE_FILTER: Final = 1
F_DUPFD_CLOEXEC: Final = 1030
F_GETFD: Final = 1
F_SETFD: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
MADV_DONTNEED: Final = 4
MADV_FREE: Final = 8
MADV_GUARD_INSTALL: Final = 102
"""How glibc from 2.42 on guards a stack."""
TCGETS: Final = 0x5401

NO_CODE: Final = (
    Allowed("mmap", 2, (0,), PROT_EXEC),
    Allowed("mprotect", 2, (0,), PROT_EXEC),
)
"""Memory may be mapped and unmapped, but never made executable."""

EVERY_KIND: Final[tuple[Rule, ...]] = (
    # Locks, memory, time and signals: glibc's own.
    "futex",
    "brk",
    "munmap",
    "mremap",
    *NO_CODE,
    Allowed("madvise", 2, (MADV_DONTNEED, MADV_FREE, MADV_GUARD_INSTALL)),
    "clock_gettime",
    "rt_sigprocmask",
    "rt_sigreturn",
    # eventfds and descriptors
    "read",
    "write",
    "close",
)
SIGNALS: Final[tuple[Rule, ...]] = ("tgkill", "getpid", "gettid")
"""Make vCPU threads leave the guest, also the one that signals, for which glibc asks its id.
The vmm sees no other process to signal."""

THREAD_END: Final = "exit"
WORKERS: Final[tuple[Rule, ...]] = (THREAD_END, "epoll_wait", "epoll_ctl")
MAKE_DEVICE: Final[tuple[Rule, ...]] = (
    # A device starts when its driver is ready, on the thread that gets the driver's write.
    "eventfd2",
    "epoll_create1",
    "epoll_ctl",
)
VHOST: Final = Allowed(
    "ioctl",
    1,
    (
        "VHOST_GET_FEATURES",
        "VHOST_GET_VRING_BASE",
        "VHOST_NET_SET_BACKEND",
        "VHOST_SET_FEATURES",
        "VHOST_SET_MEM_TABLE",
        "VHOST_SET_OWNER",
        "VHOST_SET_VRING_ADDR",
        "VHOST_SET_VRING_BASE",
        "VHOST_SET_VRING_CALL",
        "VHOST_SET_VRING_ERR",
        "VHOST_SET_VRING_KICK",
        "VHOST_SET_VRING_NUM",
    ),
)
TAP: Final = Allowed("ioctl", 1, ("TUNSETOFFLOAD", "TUNSETQUEUE"))
INTERRUPTS: Final = Allowed("ioctl", 1, ("KVM_IOEVENTFD", "KVM_IRQFD", "KVM_SET_GSI_ROUTING"))

TABLE: Final[dict[Kind, tuple[Rule, ...]]] = {
    Kind.MAIN: (
        *EVERY_KIND,
        *SIGNALS,
        *MAKE_DEVICE,
        "poll",
        "recvmsg",
        "sendto",
        "fstat",
        "getrandom",
        "rt_sigaction",
        "sigaltstack",
        "clock_nanosleep",
        "exit_group",
        Allowed("fcntl", 1, (F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFL)),
        TAP,
        VHOST,
        INTERRUPTS,
        # The console's file: its last lines are written when the machine has ended.
        "pread64",
        "pwrite64",
        "ftruncate",
    ),
    Kind.VCPU: (
        *EVERY_KIND,
        THREAD_END,
        *SIGNALS,
        *MAKE_DEVICE,
        Allowed("ioctl", 1, ("KVM_RUN", "KVM_GET_REGS")),
        TAP,
        VHOST,
        INTERRUPTS,
        "poll",
        Allowed("fcntl", 1, (F_GETFL, F_SETFL)),
        # The guest's console.
        "pread64",
        "pwrite64",
        "ftruncate",
    ),
    Kind.FILES: (
        *EVERY_KIND,
        THREAD_END,
        "poll",
        Allowed("unshare", 0, (CLONE_FS,)),
        Allowed("fcntl", 1, (F_DUPFD_CLOEXEC, F_SETFD, F_GETFL, F_SETFL)),
        "fchdir",
        "umask",
        "setfsuid",
        "setfsgid",
        "capget",
        "capset",
        # names
        "openat",
        "readlinkat",
        "linkat",
        "mkdirat",
        "mknodat",
        "symlinkat",
        "unlinkat",
        "renameat",  # glibc's renameat2 without flags
        "renameat2",
        "getdents64",
        # attributes
        "statx",
        "fstat",
        "newfstatat",
        "fstatfs",
        "fchmodat",
        "fchownat",
        "utimensat",
        "ftruncate",
        "getxattr",
        "listxattr",
        "removexattr",
        "setxattr",
        # contents
        "lseek",
        "preadv",
        "preadv2",
        "pwritev2",
        "fallocate",
        "copy_file_range",
        "fsync",
        "fdatasync",
        "syncfs",
    ),
    Kind.STREAMS: (
        *EVERY_KIND,
        *WORKERS,
        "accept4",
        "shutdown",
        "readv",
        "writev",
        Allowed("fcntl", 1, (F_GETFL, F_SETFL)),
        Allowed("ioctl", 1, (TCGETS,)),  # is it a terminal?
    ),
    Kind.NETWORK: (*EVERY_KIND, *WORKERS, "readv", "writev", TAP, VHOST),
    Kind.MEMORY: (*EVERY_KIND, *WORKERS),
    Kind.THREADS: (
        Refused("clone3", errno.ENOSYS),  # its flags are in memory, where no filter sees them
        Allowed("clone", 0, (CLONE_THREAD_FLAGS,)),
        Allowed("prctl", 0, (PR_SET_NAME, PR_SET_NO_NEW_PRIVS)),
        Allowed("seccomp", 0, (SECCOMP_SET_MODE_FILTER,)),
        "capset",
        "set_robust_list",
        "rseq",
    ),
}

SAVING: Final[tuple[Rule, ...]] = (
    # For the main thread of a machine that becomes a template: its guest runs only our
    # programs.
    "lseek",
    # Saves by path which files its guest knows.
    "openat2",
    "readlinkat",
    "statx",
    Allowed(
        "ioctl",
        1,
        (
            "KVM_GET_CLOCK",
            "KVM_GET_DEBUGREGS",
            "KVM_GET_IRQCHIP",
            "KVM_GET_LAPIC",
            "KVM_GET_MP_STATE",
            "KVM_GET_MSRS",
            "KVM_GET_REGS",
            "KVM_GET_SREGS",
            "KVM_GET_TSC_KHZ",
            "KVM_GET_VCPU_EVENTS",
            "KVM_GET_XCRS",
            "KVM_GET_XSAVE",
            "KVM_GET_XSAVE2",
            "KVM_SET_MSRS",  # finds which of them a vCPU accepts
        ),
    ),
)
CAPABILITIES: Final = (
    # linux/capability.h: CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETGID,
    # SETUID, MKNOD, SETFCAP.
    *(0, 1, 2, 3, 4, 6, 7, 27, 31),
)
SYS_ADMIN: Final = 21


def list_rules(kind: Kind, saves: bool = False) -> tuple[Rule, ...]:
    """`saves`: the machine is to become a template."""
    if kind is Kind.THREADS:
        every = [rule for other in Kind for rule in TABLE[other]]
        return tuple(dict.fromkeys(every))
    rules = TABLE[kind]
    return rules + SAVING if saves and kind is Kind.MAIN else rules


def keep_capabilities(kind: Kind) -> int:
    """Bits as in capabilities(7): for threads that make and change files for the guest."""
    if kind not in (Kind.FILES, Kind.THREADS):
        return 0
    return sum(1 << number for number in CAPABILITIES)
