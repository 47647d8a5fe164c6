"""Counts the files that the host's processes open, and the bytes that they read.

Counted by the kernel: hist triggers on system calls, in a tracing instance of our own
(Documentation/trace/histogram.rst).  All processes on the host count, except the one
that measures.  Needs root and tracefs.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

TRACING: Final = Path("/sys/kernel/tracing")
OPENS: Final = ("sys_enter_openat", "sys_enter_openat2")
READS: Final = ("sys_exit_read", "sys_exit_pread64")
COUNT: Final = "hist:keys=common_pid:vals=hitcount"
SUM: Final = "hist:keys=common_pid:vals=ret if ret > 0"
ROW: Final = re.compile(r"common_pid:\s*(\d+) \} hitcount:\s*(\d+)(?:\s+ret:\s*(\d+))?")


class FileCounts(NamedTuple):
    opened: int
    read_bytes: int


class FileWatch:
    """Context manager; its counts are None if the kernel has no such tracing."""

    def __init__(self) -> None:
        self._instance = TRACING / "instances" / f"sampan-bench-{os.getpid()}"
        self._works = False

    def __enter__(self) -> Self:
        try:
            self._instance.mkdir()
            self._set("")
            self._works = True
        except OSError:
            self._remove()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._works:
            self._set("!")
            self._remove()

    def _set(self, prefix: str) -> None:
        for names, trigger in ((OPENS, COUNT), (READS, SUM)):
            for name in names:
                self._path(name, "trigger").write_text(prefix + trigger)

    def _remove(self) -> None:
        with suppress(OSError):
            self._instance.rmdir()

    def read(self) -> FileCounts | None:
        if not self._works:
            return None
        opened = sum(parse_rows(self._path(name, "hist").read_text())[0] for name in OPENS)
        read_bytes = sum(parse_rows(self._path(name, "hist").read_text())[1] for name in READS)
        return FileCounts(opened, read_bytes)

    def _path(self, event: str, name: str) -> Path:
        return self._instance / "events/syscalls" / event / name


def parse_rows(text: str) -> tuple[int, int]:
    """Hits, and the sum of `ret`, of every process but this one."""
    rows = [match.groups() for match in ROW.finditer(text)]
    others = [(hits, total) for pid, hits, total in rows if int(pid) != os.getpid()]
    return sum(int(hits) for hits, _ in others), sum(int(total or 0) for _, total in others)
