"""What a shim keeps of root's capabilities once its machine has been started.

Numbers and names: capabilities(7), linux/capability.h.
"""

from typing import Final

from shim.host.syscalls import keep_capabilities

KEPT: Final = {
    # Files of roots and volumes.  Hazard: an overlay changes its upper directory with the
    # credentials of the process that mounted it, for as long as it lives.
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "LINUX_IMMUTABLE": 9,
    "SYS_RESOURCE": 24,
    "MKNOD": 27,
    "SETFCAP": 31,
    "MAC_OVERRIDE": 32,
    "MAC_ADMIN": 33,
    # Network namespaces, their interfaces and tc.
    "NET_ADMIN": 12,
    # Mounts, and the mount namespace of a vmm, which is in its jail.
    "SYS_CHROOT": 18,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    # Programs of other users: logging programs, hooks.
    "KILL": 5,
}


def keep_few_capabilities() -> None:
    """Of the calling thread and those that it makes.

    The bounding set stays: a program that the shim starts, such as a logging program, has
    all that root has, as under runc's shim.
    """
    keep_capabilities(sum(1 << number for number in KEPT.values()))
