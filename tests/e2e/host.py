"""What sampan could leave on a host, read before and after a test."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

RUN_DIR = Path("/run/sampan")
WARM_DIR = RUN_DIR / "warm"
"""Of the warm server, which starts with the first container and stays."""
OCI_DIR = Path("/run/sampan-oci")
NAMES = ("sampan-vmm", "sampan-shim", "sampan-prewarm", "sampan-warm", "sampan-monitor")
OURS = ("shim.vmm", "containerd-shim-sampan", "shim.containerd.start", *NAMES)
DEADLINE_S = 30
Read = TypeVar("Read")


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
            for run_dir in (RUN_DIR, OCI_DIR)
            for top, directories, names in os.walk(run_dir)
            for name in directories + names
            if WARM_DIR not in (Path(top), Path(top, name))
        ),
        links=frozenset(os.listdir("/sys/class/net")),
        loops=frozenset(
            path.parent.parent.name for path in Path("/sys/block").glob("loop*/loop/backing_file")
        ),
    )


def walk_processes(read: Callable[[Path], Read]) -> list[Read]:
    """What `read` finds of each one's directory in /proc, but for those that end meanwhile."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                found.append(read(entry))
    return found


def find_processes() -> list[str]:
    """Every process that is ours, zombies too, as "pid name command"; but the warm server."""
    servers = find_warm_servers()
    return [
        f"{pid} {name} {command[:80]}"
        for pid, name, command in walk_processes(read_process)
        if any(word in command or word in name for word in OURS) and int(pid) not in servers
    ]


def find_warm_servers() -> list[int]:
    """Those that hold the lock: a process that one has forked for a call does not."""
    return [
        int(pid)
        for pid, held in walk_processes(lambda entry: (entry.name, read_links(entry / "fd")))
        if any(str(WARM_DIR) in target and target.endswith(".lock") for target in held)
    ]


def read_links(directory: Path) -> list[str]:
    links = []
    for link in directory.iterdir():
        with suppress(FileNotFoundError):
            links.append(os.readlink(link))
    return links


def read_process(entry: Path) -> tuple[str, str, str]:
    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return entry.name, (entry / "comm").read_text().strip(), command


def find_pid(word: str) -> int:
    """The one process of ours whose name has `word` in it."""
    pids = [int(line.split()[0]) for line in find_processes() if word in line.split()[1]]
    assert len(pids) == 1, find_processes()
    return pids[0]


def wait_unchanged(before: Host) -> list[str]:
    """What is there now and was not before; waits until nothing is, or DEADLINE_S."""
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
