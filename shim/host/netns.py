"""Network namespaces: made, opened, and entered by a thread for a piece of work.

A namespace is an open descriptor here (setns(2)); it lives as long as one is
open or a process is in it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from shim.errors import HostResource, InvalidArgument
from shim.host import syscalls

OWN = "/proc/thread-self/ns/net"
LOOPBACK = "lo"


def open_namespace(path: str) -> int:
    """InvalidArgument when there is none at `path`."""
    fd = -1
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with entered(fd):
            return fd
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise InvalidArgument(f"{path}: no network namespace: {error.strerror}") from error


def make_namespace() -> int:
    """A new one with nothing in it but lo, which is down."""
    old = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare_network()
        new = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        syscalls.enter_network_namespace(old)
        return new
    except OSError as error:
        raise HostResource(f"network namespace: {error.strerror}") from error
    finally:
        os.close(old)


@contextmanager
def entered(namespace: int) -> Iterator[None]:
    """The calling thread is in `namespace` inside the block, which must not await."""
    old = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.enter_network_namespace(namespace)
        try:
            yield
        finally:
            syscalls.enter_network_namespace(old)
    finally:
        os.close(old)


def list_links(namespace: int) -> list[str]:
    """Names of the interfaces except lo; needs no netlink."""
    with entered(namespace), open("/proc/thread-self/net/dev", encoding="ascii") as file:
        lines = file.read().splitlines()[2:]
    return [name for line in lines if (name := line.split(":")[0].strip()) != LOOPBACK]
