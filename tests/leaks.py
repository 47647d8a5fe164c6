"""What a process holds that a test could leave behind."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

FD_DIR = Path("/proc/self/fd")


@dataclass(frozen=True)
class Resources:
    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[threading.Thread]
    children: frozenset[int]
    links: frozenset[str]
    namespaces: frozenset[str]


def read_resources() -> Resources:
    return Resources(
        descriptors=frozenset(read_descriptors()),
        threads=frozenset(threading.enumerate()),
        children=frozenset(read_children()),
        links=list_names(Path("/sys/class/net")),
        namespaces=list_names(Path("/run/netns")),
    )


def read_descriptors() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir(FD_DIR):
        try:
            found.append((int(name), os.readlink(FD_DIR / name)))
        except FileNotFoundError:
            continue  # the one that listed the directory
    return found


def read_children() -> list[int]:
    pids: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        try:
            pids += [int(word) for word in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has ended
    return pids


def list_names(directory: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(directory))
    except FileNotFoundError:
        return frozenset()


def find_leaks(before: Resources) -> list[str]:
    """A short name for each thing that is there now and was not before."""
    now = read_resources()
    leaks = [
        f"fd {number} ({what})" for number, what in sorted(now.descriptors - before.descriptors)
    ]
    leaks += [
        f"thread {thread.name}" for thread in now.threads - before.threads if thread.is_alive()
    ]
    leaks += [f"child {pid}" for pid in sorted(now.children - before.children)]
    leaks += [f"network link {name}" for name in sorted(now.links - before.links)]
    leaks += [f"network namespace {name}" for name in sorted(now.namespaces - before.namespaces)]
    return leaks
