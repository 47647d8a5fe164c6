"""A pid namespace for one child."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from shim.host import syscalls
from shim.host.fds import opened

OWN = "/proc/self/ns/pid"


@contextmanager
def new_pid_namespace() -> Iterator[None]:
    """The calling thread's next child is process 1 of a new namespace: it sees no other
    process, and its descendants end with it.  Needs root."""
    with opened(os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)) as own:
        syscalls.unshare_processes()
        try:
            yield
        finally:
            syscalls.enter_namespace_of_processes(own)
