"""What long-lived processes hold: descriptors, threads, memory of their own."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.host import walk_processes

LONG_LIVED: Final = ("containerd", "sampan-shim", "sampan-vmm")
MEMORY_GROWTH: Final = 1.25
"""Tolerated: caches fill, allocators keep what they had."""
FLOATING: Final = 4
"""Descriptors that come and go: containerd's connections and timers."""


@dataclass(frozen=True)
class Footprint:
    descriptors: int
    threads: int
    private_kib: int


def read_footprints(names: Iterable[str] = LONG_LIVED) -> dict[str, Footprint]:
    """By "name pid", of every process of these names."""

    def read(entry: Path) -> tuple[str, Footprint] | None:
        name = (entry / "comm").read_text().strip()
        return (f"{name} {entry.name}", read_footprint(entry)) if name in names else None

    return dict(filter(None, walk_processes(read)))


def read_footprint(entry: Path) -> Footprint:
    rollup = (entry / "smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    return Footprint(
        descriptors=len(list((entry / "fd").iterdir())),
        threads=len(list((entry / "task").iterdir())),
        private_kib=private,
    )


def find_growth(before: dict[str, Footprint], after: dict[str, Footprint]) -> list[str]:
    """What has grown beyond what floats.  A vmm's memory is its guest's, and not judged."""
    grown = []
    for name in sorted(before.keys() & after.keys()):
        was, now = before[name], after[name]
        if now.descriptors > was.descriptors + FLOATING:
            grown.append(f"{name}: {was.descriptors} descriptors, now {now.descriptors}")
        if now.threads > was.threads + FLOATING:
            grown.append(f"{name}: {was.threads} threads, now {now.threads}")
        if "vmm" not in name and now.private_kib > was.private_kib * MEMORY_GROWTH:
            grown.append(f"{name}: {was.private_kib} KiB of its own, now {now.private_kib}")
    return grown
