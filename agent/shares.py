"""What a container has of the host's file systems, and when it is there.

Paths are directories or files below the virtio-fs shares of agent/mounts.py: mounts on
the host, none here.  Every function that is given paths may take as long as the host does.
"""

import os
from collections.abc import Iterable
from typing import Final

from agent import linux

UNWRITTEN: Final = ("nr_dirty", "nr_writeback", "nr_writeback_temp")


def flush(paths: Iterable[str]) -> None:
    """What has been written is on the host; costs a syncfs of each share, which goes to its
    disk too."""
    for path in {os.stat(path).st_dev: path for path in paths}.values():
        linux.sync_file_system(path)


def has_unwritten_pages() -> bool:
    """In the whole guest, exactly: the counters are brought together first.  Does not wait
    for the host.

    A file's pages go there when it is closed, so mostly there are none: only what was
    written to a mapped file.  FUSE's own copies of pages on their way are
    nr_writeback_temp.  Spec: the kernel's admin-guide/sysctl/vm.rst (stat_refresh),
    /proc/vmstat.
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
