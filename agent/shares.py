"""A container's files on the host's file systems, and when writes have reached them.

Paths are directories or files below the virtio-fs shares of agent/mounts.py: they are
mounts on the host, but not here.  Every function that takes paths may take as long as
the host does.
"""

import os
from collections.abc import Iterable
from typing import Final

from agent import linux

UNWRITTEN: Final = ("nr_dirty", "nr_writeback", "nr_writeback_temp")


def flush(paths: Iterable[str]) -> None:
    """Afterwards all writes are on the host; costs a syncfs of each share, which also
    writes to its disk."""
    for path in {os.stat(path).st_dev: path for path in paths}.values():
        linux.sync_file_system(path)


def has_unwritten_pages() -> bool:
    """Whether the whole guest has any; exact, as the per-CPU counters are summed first.
    Does not wait for the host.

    A file's pages are written to the host when it is closed, so usually only writes to
    a mapped file are left.  FUSE's own copies of pages in flight are nr_writeback_temp.
    Spec: the kernel's admin-guide/sysctl/vm.rst (stat_refresh), /proc/vmstat.
    """
    fd = os.open("/proc/sys/vm/stat_refresh", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)
    with open("/proc/vmstat") as file:
        return any(count_unwritten(file))


def count_unwritten(lines: Iterable[str]) -> list[int]:
    pairs = (line.split() for line in lines)
    return [int(value) for name, value in pairs if name in UNWRITTEN]
