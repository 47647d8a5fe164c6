"""The host's counters: its processors' time, packets of a namespace, exits of guests,
wake-ups of processes."""

import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

KVM_STATISTICS: Final = Path("/sys/kernel/debug/kvm")
TO_USER: Final = ("io_exits", "mmio_exits")
"""Exits that KVM may hand to the vmm. Those for an ioeventfd do not count as mmio_exits."""
IDLE: Final = (3, 4)
"""Columns of /proc/stat (proc_stat(5)): idle, iowait."""
RX_PACKETS, TX_PACKETS = 1, 9
"""Columns of /proc/net/dev."""


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_s: float
    packets: int
    exits: int | None
    """None if KVM's statistics cannot be read."""

    def __sub__(self, earlier: Self) -> "Usage":
        exits = None
        if self.exits is not None and earlier.exits is not None:
            exits = self.exits - earlier.exits
        return Usage(self.cpu_s - earlier.cpu_s, self.packets - earlier.packets, exits)


def read_usage(namespace: str, interface: str = "eth0") -> Usage:
    return Usage(read_cpu_s(), read_packets(namespace, interface), read_exits())


def read_cpu_s() -> float:
    """The time of all processors, guests included."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    busy = sum(int(word) for column, word in enumerate(words) if column not in IDLE)
    return busy / os.sysconf("SC_CLK_TCK")


def read_packets(namespace: str, interface: str) -> int:
    """Both directions, as the interface counts them: a segmented packet once."""
    command = ["ip", "netns", "exec", namespace, "cat", "/proc/net/dev"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in table.splitlines():
        name, _, counts = line.strip().partition(":")
        if name == interface:
            columns = counts.split()
            return int(columns[RX_PACKETS]) + int(columns[TX_PACKETS])
    raise ValueError(f"{namespace}: no interface {interface}")


def measure_wakeups(pids: frozenset[int], watched_s: float) -> float:
    """How often a second threads of these processes, vCPUs among them, go back to sleep."""
    before, began = count_sleeps(pids), time.monotonic()
    time.sleep(watched_s)
    return (count_sleeps(pids) - before) / (time.monotonic() - began)


def count_sleeps(pids: frozenset[int]) -> int:
    """Sleeps of the threads that still run."""
    count = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            with suppress(OSError):
                count += parse_sleeps(status.read_text())
    return count


def parse_sleeps(status: str) -> int:
    """Sleeps from a /proc/<pid>/status."""
    name, _, rest = status.partition("\nvoluntary_ctxt_switches:")
    return int(rest.split(None, 1)[0]) if name and rest else 0


def read_exits() -> int | None:
    """Exits of all running machines."""
    if not KVM_STATISTICS.is_dir():
        return None
    return sum(
        int(path.read_text())
        for machine in KVM_STATISTICS.glob("*-*")
        for path in (machine / name for name in TO_USER)
        if path.exists()
    )
