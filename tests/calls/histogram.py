"""System calls by the names of threads, counted by the kernel: a histogram trigger of ftrace.

Spec: the kernel's trace/histogram.rst.  Needs root and a mounted tracefs.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TRACING: Final = Path("/sys/kernel/tracing")
EVENT: Final = TRACING / "events/raw_syscalls/sys_enter"
NAMES: Final = ("sampan-vmm", "vcpu*", "fs", "vsock", "net", "net-control", "balloon", "threads")
"""Of the threads that are counted; the first letters, and then a star.  With all others the
histogram, which has a row for each thread and call, would be full within minutes."""
TRIGGER: Final = "hist:keys=common_pid.execname,id.syscall:size=131072 if " + " || ".join(
    f'COMM ~ "{name}"' for name in NAMES
)
DROPPED: Final = re.compile(r"Dropped: (?P<count>\d+)")
LINE: Final = re.compile(
    r"\{ common_pid: (?P<name>.*?)\s*\[\s*\d+\], id: sys_(?P<call>\w+)\s*\[\s*\d+\] \} "
    r"hitcount:\s*(?P<count>\d+)"
)


@contextmanager
def counting() -> Iterator[None]:
    if not EVENT.exists():
        subprocess.run(["mount", "-t", "tracefs", "none", str(TRACING)], check=True)
    (EVENT / "trigger").write_text(TRIGGER)
    try:
        yield
    finally:
        (EVENT / "trigger").write_text(f"!{TRIGGER}")


def read_counts() -> dict[str, Counter[str]]:
    """By the thread's name; while counting.  RuntimeError when there was no room for some."""
    text = (EVENT / "hist").read_text()
    dropped = DROPPED.search(text)
    if dropped is not None and int(dropped["count"]):
        raise RuntimeError(f"{EVENT}: {dropped['count']} calls did not fit into the histogram")
    return parse_counts(text)


def parse_counts(text: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for match in LINE.finditer(text):
        found.setdefault(match["name"], Counter())[match["call"]] += int(match["count"])
    return found
