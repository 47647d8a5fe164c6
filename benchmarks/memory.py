"""What containers cost in host memory: the proportional set size (PSS) of every process
that was not there before, of the warm server, and a guest's RAM apart from its vmm."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from shim.machine.running import parse_pss_bytes

SETTLE_S: Final = 2.0
"""Idle: no change of more than SETTLE_BYTES for this long."""
SETTLE_BYTES: Final = 256 << 10
MAX_SETTLE_S: Final = 60.0
VMM: Final = "sampan-vmm"
WARM: Final = "sampan-warm"
"""It starts with the first container and stays: containers share its cost."""
GUEST: Final = "guest"
MAPPING: Final = re.compile("[0-9a-f]+-[0-9a-f]+ ")
"""The beginning of a line of smaps that describes a mapping."""
GUEST_MAPPINGS: Final = ("[anon:guest-memory]", "/memory", "/vmlinux")


def list_pids() -> frozenset[int]:
    """Processes with memory of their own: kernel threads have no command line."""
    pids = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes():
                    pids.add(int(entry.name))
            except OSError:
                continue
    return frozenset(pids)


def find_named(name: str) -> frozenset[int]:
    """Processes of that name."""
    found = set()
    for pid in list_pids():
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.add(pid)
    return frozenset(found)


def parse_guest_bytes(smaps: str) -> int:
    """PSS of a guest's RAM in its vmm's /proc/<pid>/smaps; 0 of another process.

    Pages that a clone has not changed belong to the mapping of its template's file, or of
    the kernel's.
    """
    size = 0
    of_guest = False
    for line in smaps.splitlines():
        if MAPPING.match(line):
            of_guest = line.endswith(GUEST_MAPPINGS)
        elif of_guest and line.startswith("Pss:"):
            size += int(line.split()[1]) << 10
    return size


def read_pss(pids: frozenset[int]) -> dict[str, int]:
    """Bytes by the processes' names; those that have ended meanwhile are left out."""
    sizes: dict[str, int] = {}
    for pid in pids:
        try:
            size = parse_pss_bytes(Path(f"/proc/{pid}/smaps_rollup").read_text())
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        sizes[name] = sizes.get(name, 0) + size
    return sizes


def split_guests(sizes: dict[str, int], pids: frozenset[int]) -> dict[str, int]:
    guests = 0
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == VMM:
                guests += parse_guest_bytes(Path(f"/proc/{pid}/smaps").read_text())
    return {**sizes, VMM: sizes[VMM] - guests, GUEST: guests} if guests else sizes


def list_counted(before: frozenset[int], shared: frozenset[int]) -> frozenset[int]:
    """Processes that are new since `before`, and older ones that are shared."""
    return list_pids() - before | shared


def read_settled_pss(
    before: frozenset[int], shared: frozenset[int] = frozenset()
) -> dict[str, int]:
    """PSS of the processes of list_counted, once it does not change any more."""
    deadline = time.monotonic() + MAX_SETTLE_S
    last = read_pss(list_counted(before, shared))
    while True:
        time.sleep(SETTLE_S)
        now = read_pss(list_counted(before, shared))
        change = abs(sum(now.values()) - sum(last.values()))
        if change <= SETTLE_BYTES or time.monotonic() > deadline:
            return split_guests(now, list_counted(before, shared))
        last = now
