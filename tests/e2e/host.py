"""What sampan could leave on a host, read before and after a test."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

RUN_DIR = Path("/run/sampan")
OURS = ("shim.vmm", "containerd-shim-sampan", "shim.bootstrap", "sampan-vmm", "sampan-shim")
DEADLINE_S = 30


@dataclass(frozen=True)
class Host:
    processes: frozenset[str]
    mounts: frozenset[str]
    files: frozenset[str]
    links: frozenset[str]
    loops: frozenset[str]


def read_host() -> Host:
    return Host(
        processes=frozenset(find_processes()),
        mounts=frozenset(
            line.split()[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if "sampan" in line or "/io.containerd.runtime.v2.task/" in line
        ),
        files=frozenset(
            os.path.join(top, name)
            for top, directories, names in os.walk(RUN_DIR)
            for name in directories + names
        ),
        links=frozenset(os.listdir("/sys/class/net")),
        loops=frozenset(
            path.parent.parent.name for path in Path("/sys/block").glob("loop*/loop/backing_file")
        ),
    )


def find_processes() -> list[str]:
    """Every process that is ours, zombies too, as "pid command"."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name = (entry / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(word in command or word in name for word in OURS):
            found.append(f"{entry.name} {name} {command[:80]}")
    return found


def find_pid(word: str) -> int:
    """The one process of ours whose name has `word` in it."""
    pids = [int(line.split()[0]) for line in find_processes() if word in line.split()[1]]
    assert len(pids) == 1, find_processes()
    return pids[0]


def wait_unchanged(before: Host) -> list[str]:
    """What is there now and was not before, once nothing changes for the better."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        now = read_host()
        left = [
            f"{kind} {thing}"
            for kind in ("processes", "mounts", "files", "links", "loops")
            for thing in sorted(getattr(now, kind) - getattr(before, kind))
        ]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)
