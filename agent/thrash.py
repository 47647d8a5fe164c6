"""Containers at their memory limit that only read their own program again and again.

Pages of files count as a container's memory.  While dropping one makes room for the
next, the kernel does not report out of memory, though the few pages that the
container needs at once may not fit: then it makes no progress at all.  A guest's
page cache belongs to its container alone, so this comes sooner here than where
containers share a kernel; the user who set the limit expects a kill.

The kernel does the kill and chooses the process: the limit is set below what cannot
be dropped, and then restored.  Files: the kernel's
Documentation/admin-guide/cgroup-v2.rst, "Memory".
"""

import asyncio
from contextlib import suppress
from typing import Final, NamedTuple

from agent.cgroup import Cgroup, write_file

PAGE_BYTES: Final = 4096
SAMPLE_PERIOD_S: Final = 1.0
LONGEST_GAP_S: Final = 3.0
"""Without a sample for this long, the container was not at its limit."""
MIN_THRASH_S: Final = 5.0
MAX_CACHE_BYTES: Final = 1 << 20
MIN_TURNOVERS: Final = 10
"""How often the whole cache must be read again between two samples."""
READAHEAD_PAGES: Final = 64
"""An upper bound of the pages that one fault of a mapped file reads."""
MARGIN_BYTES: Final = 1 << 20


class Sample(NamedTuple):
    time_s: float
    cache_bytes: int
    """The memory that can be dropped."""
    refaults: int
    """Pages that were dropped and read again, so far."""
    major_faults: int
    faults: int


def take_sample(stats: dict[str, dict[str, int]], time_s: float) -> Sample | None:
    """None without the memory controller."""
    stat = stats.get("memory.stat")
    if stat is None:
        return None
    return Sample(
        time_s,
        stat["file"] - stat["shmem"],
        stat["workingset_refault_file"],
        stat["pgmajfault"],
        stat["pgfault"],
    )


def is_thrashing(before: Sample, now: Sample) -> bool:
    """Every fault was for a page of a mapped file, and these explain all that was read: no
    process got anonymous memory, and none was reading a file with read(2)."""
    refaults = now.refaults - before.refaults
    major = now.major_faults - before.major_faults
    return (
        now.time_s - before.time_s <= LONGEST_GAP_S
        and now.cache_bytes <= MAX_CACHE_BYTES
        and refaults >= MIN_TURNOVERS * max(now.cache_bytes // PAGE_BYTES, 1)
        and refaults <= READAHEAD_PAGES * major
        and now.faults - before.faults <= major + major // 8
    )


class ThrashWatch:
    """For one container: sample() whenever it has reached its limit."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup = cgroup
        self._last: Sample | None = None
        self._thrashing_since_s: float | None = None
        self._lowering: asyncio.Task[None] | None = None

    def sample(self, time_s: float) -> None:
        last = self._last
        if self._lowering is not None and not self._lowering.done():
            return
        if last is not None and time_s - last.time_s < SAMPLE_PERIOD_S:
            return
        stats = self._cgroup.read_memory()
        self._last = now = take_sample(stats, time_s)
        if last is None or now is None or not is_thrashing(last, now):
            self._thrashing_since_s = None
        elif self._thrashing_since_s is None:
            self._thrashing_since_s = last.time_s
        elif time_s - self._thrashing_since_s >= MIN_THRASH_S:
            self._thrashing_since_s = None
            limits = plan_lower_limit(stats, now)
            if limits is not None:
                self._lowering = asyncio.ensure_future(self._lower_limit(*limits))

    async def _lower_limit(self, limit: int, lower: int) -> None:
        """Writing a lower limit returns when the kernel has killed enough."""
        path = self._cgroup.path_of("memory.max")
        with suppress(OSError):  # it may have gone meanwhile
            try:
                await asyncio.to_thread(write_file, path, str(lower))
            finally:
                # A limit that was updated in between stays.
                if self._cgroup.read_memory().get("memory.max", {}).get("") == lower:
                    write_file(path, str(limit))


def plan_lower_limit(stats: dict[str, dict[str, int]], now: Sample) -> tuple[int, int] | None:
    """The limit, and the one below what cannot be dropped, in bytes; None if the limit
    that was reached is not the container's own."""
    limit, usage = stats["memory.max"][""], stats["memory.current"][""]
    if usage < limit - max(limit // 16, MARGIN_BYTES):
        return None
    lower = usage - now.cache_bytes - MARGIN_BYTES
    return limit, max(lower, 0) // PAGE_BYTES * PAGE_BYTES
