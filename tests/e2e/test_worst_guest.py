"""A guest that does its worst uses its own cgroup's memory and CPUs, and nobody else's."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from shim.config import load_config
from tests.e2e.containerd import Containerd
from tests.e2e.ctr import DEBIAN, TIMEOUT_S, Ctr

CGROUPS: Final = Path("/sys/fs/cgroup")
MIB: Final = 1 << 20
ATTACK_S: Final = 8
MEMORY_OUTSIDE: Final = 48 * MIB
"""What others on the host may need meanwhile: containerd, this test, the page cache of both."""
CPU_OUTSIDE: Final = 0.5
"""Of what the guest uses, or of one processor where a slow reader holds the guest back: writeback,
interrupts, and what is left to do for the container before are the host kernel's own."""
NOT_COUNTED: Final = ("rcu_preempt",)
"""Kernel threads.  RCU's grace periods take seconds of a busy emulated host's CPU; at hardware
speed 300,000 names that were looked up took none (2026-12-01)."""
LOG_BYTES: Final = 64 << 10
"""That containerd's log may grow by: some hundred lines."""

SHELL: Final = "echo up; {}"
PYTHON: Final = "import itertools, mmap, os\nprint('up', flush=True)\n"
ATTACKS: Final = {
    "memory": (
        "python3",
        "-c",
        PYTHON + "keep = []\nfor n in itertools.count():\n"
        "    if n % 64 == 60: keep.clear()\n"
        "    m = mmap.mmap(-1, 8 << 20)\n    m.write(os.urandom(4096) * 2048)\n"
        "    keep.append(m)",
    ),
    "page cache": (
        "sh",
        "-c",
        SHELL.format(
            "while :; do dd if=/dev/zero of=/big bs=1M count=64; cat /big; rm /big; done "
            ">/dev/null 2>&1"
        ),
    ),
    "names looked up": (
        "python3",
        "-c",
        PYTHON + "for n in itertools.count():\n    os.path.exists('/' + f'{n:x}' * 20)",
    ),
    "names made": (
        "python3",
        "-c",
        PYTHON + "os.mkdir('/d')\nfor n in itertools.count():\n"
        "    open('/d/' + f'{n:x}' * 20, 'w').close()",
    ),
    "descriptors": (
        "python3",
        "-c",
        PYTHON + "keep = []\nfor n in itertools.count():\n"
        "    try: keep.append(open(f'/f{n}', 'w'))\n"
        "    except OSError: keep.clear()",
    ),
    "kernel messages": (
        "sh",
        "-c",
        SHELL.format("echo 8 >/proc/sys/kernel/printk; while :; do echo flood >/dev/kmsg; done"),
    ),
    "out of memory": (
        "sh",
        "-c",
        SHELL.format("while :; do python3 -c 'a = []\nwhile 1: a.append(bytes(1 << 20))'; done"),
    ),
    "stdout": ("sh", "-c", SHELL.format("yes")),
}
FLAGS: Final = {
    "kernel messages": ("--privileged",),
    "out of memory": ("--memory-limit", str(24 * MIB)),
}


@dataclass(frozen=True)
class Usage:
    memory_inside: int
    memory_outside: int
    cpu_inside_ns: int
    cpu_outside_ns: dict[str, int]
    """By thread, the kernel's own too."""


def read_usage(cgroup: Path) -> Usage:
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    inside = int((cgroup / "memory.current").read_text())
    return Usage(
        memory_inside=inside,
        memory_outside=((kib["MemTotal"] - kib["MemFree"]) << 10) - inside,
        cpu_inside_ns=read_cpu_ns(cgroup),
        cpu_outside_ns=dict(read_threads_outside(cgroup)),
    )


def read_cpu_ns(cgroup: Path) -> int:
    for line in (cgroup / "cpu.stat").read_text().splitlines():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) * 1000
    raise AssertionError(f"{cgroup}/cpu.stat has no usage_usec")


def read_threads_outside(cgroup: Path) -> Iterator[tuple[str, int]]:
    """Nanoseconds on a processor, but this test's own.  The times of the root cgroup are no
    help: they are counted by ticks, of which a busy emulated host loses some."""
    own = f"0::/{cgroup.relative_to(CGROUPS)}"
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if (process / "cgroup").read_text().strip() == own:
                continue
            for thread in (process / "task").iterdir():
                name = (thread / "comm").read_text().strip()
                if name in NOT_COUNTED or process.name == str(os.getpid()):
                    continue
                yield f"{name} {thread.name}", int((thread / "schedstat").read_text().split()[0])


def count_cpu_outside_ns(before: Usage, after: Usage) -> dict[str, int]:
    """By thread."""
    counts = after.cpu_outside_ns.items()
    return {thread: count - before.cpu_outside_ns.get(thread, 0) for thread, count in counts}


def read_needed(cgroup: Path) -> int:
    """Bytes that the kernel cannot take back by writing or forgetting file contents."""
    lines = (cgroup / "memory.stat").read_text().splitlines()
    stat = {name: int(value) for name, value in (line.split() for line in lines)}
    return stat["anon"] + stat["shmem"] + stat["kernel"] - stat["slab_reclaimable"]


def read_machine_bytes(cgroup: Path) -> int:
    overhead_mib = load_config().host_overhead_mib
    return int((cgroup / "memory.max").read_text()) - overhead_mib * MIB


@contextmanager
def attacking(ctr: Ctr, attack: str) -> Iterator[Path]:
    """The cgroup of a container that does it; its output is read no further than "up"."""
    name, process = ctr.popen(*ATTACKS[attack], image=DEBIAN, flags=FLAGS.get(attack, ()))
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    try:
        yield CGROUPS / "default" / name
    finally:
        ctr.kill(name)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        process.wait(TIMEOUT_S)
        ctr.remove(name)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_it_uses_is_in_its_cgroup(ctr: Ctr, attack: str) -> None:
    log = Containerd().log
    logged = os.stat(log).st_size
    with attacking(ctr, attack) as cgroup:
        before = read_usage(cgroup)
        time.sleep(ATTACK_S)
        after = read_usage(cgroup)
        needed, machine = read_needed(cgroup), read_machine_bytes(cgroup)
    inside_ns = after.cpu_inside_ns - before.cpu_inside_ns
    by_thread = count_cpu_outside_ns(before, after)
    outside_ns = sum(by_thread.values())
    grown = after.memory_outside - before.memory_outside
    said = os.stat(log).st_size - logged
    print(
        f"{attack}: outside {grown / MIB:.1f} MiB more, {outside_ns / 1e9:.2f} s of CPU; inside "
        f"{after.memory_inside / MIB:.0f} MiB, {inside_ns / 1e9:.2f} s; log {said} bytes; "
        f"needed {needed / MIB:.0f} MiB, the machine has {machine / MIB:.0f} MiB"
    )
    assert needed < machine + load_config().host_overhead_mib * MIB // 2
    assert grown < MEMORY_OUTSIDE
    most = sorted(by_thread.items(), key=lambda pair: -pair[1])[:5]
    assert outside_ns < CPU_OUTSIDE * max(inside_ns, ATTACK_S * 1_000_000_000), most
    assert said < LOG_BYTES
    assert ctr.run("echo", "fine").stdout == "fine\n"
