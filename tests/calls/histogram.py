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
TRIGGER: Final = "hist:keys=common_pid.execname,id.syscall:size=65536"
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
    """By the thread's name; while counting."""
    return parse_counts((EVENT / "hist").read_text())


def parse_counts(text: str) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for match in LINE.finditer(text):
        found.setdefault(match["name"], Counter())[match["call"]] += int(match["count"])
    return found
