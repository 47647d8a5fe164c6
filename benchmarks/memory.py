"""What containers cost in host memory: the proportional set size (PSS) of every
process that was not there before.  A guest's RAM counts as its vmm's."""

import time
from pathlib import Path
from typing import Final

SETTLE_S: Final = 2.0
"""Idle means: this long without more than SETTLE_BYTES of change."""
SETTLE_BYTES: Final = 256 << 10
MAX_SETTLE_S: Final = 60.0


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


def parse_pss_bytes(rollup: str) -> int:
    """Of a /proc/<pid>/smaps_rollup."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


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


def read_settled_pss(before: frozenset[int]) -> dict[str, int]:
    """PSS of the processes that are new since `before`, once it stays the same."""
    deadline = time.monotonic() + MAX_SETTLE_S
    last = read_pss(list_pids() - before)
    while True:
        time.sleep(SETTLE_S)
        now = read_pss(list_pids() - before)
        change = abs(sum(now.values()) - sum(last.values()))
        if change <= SETTLE_BYTES or time.monotonic() > deadline:
            return now
        last = now
