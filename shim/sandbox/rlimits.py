"""The limits of a container's process whose spec has none."""

import resource
from typing import Final

from shim.oci.guest import Rlimit

RLIMITS: Final = {
    name: getattr(resource, name)
    for name in (
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_RSS",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
        "RLIMIT_SIGPENDING",
        "RLIMIT_STACK",
    )
}


def read_rlimits() -> tuple[Rlimit, ...]:
    """This process's, inherited from its caller, as a process under runc inherits them."""
    limits = []
    for name, number in RLIMITS.items():
        soft, hard = (value & ((1 << 64) - 1) for value in resource.getrlimit(number))
        limits.append(Rlimit(name, soft, hard))
    return tuple(limits)
