"""A cgroup with a limit of memory, of whichever version this machine has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TOP: Final = Path("/sys/fs/cgroup")
FIRST: Final = TOP / "memory"
"""Version 1 has a hierarchy for each controller."""


class MemoryCgroup:
    def __init__(self, name: str) -> None:
        self.path = (FIRST if FIRST.exists() else TOP) / name

    @property
    def is_first_version(self) -> bool:
        return self.path.parent == FIRST

    def make(self, limit_bytes: int) -> None:
        self.path.mkdir()
        limit = "memory.limit_in_bytes" if self.is_first_version else "memory.max"
        (self.path / limit).write_text(str(limit_bytes))

    @property
    def enter(self) -> tuple[str, ...]:
        """The words of a command that runs another one inside."""
        return ("sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.path / "cgroup.procs"))

    def read_peak(self) -> int:
        """Bytes, at most since it was made; the kernel's own for its processes are counted."""
        name = "memory.max_usage_in_bytes" if self.is_first_version else "memory.peak"
        return int((self.path / name).read_text())


@contextmanager
def memory_cgroup(name: str, limit_bytes: int) -> Iterator[MemoryCgroup]:
    made = MemoryCgroup(f"sampan-test-{os.getpid()}-{name}")
    made.make(limit_bytes)
    try:
        yield made
    finally:
        made.path.rmdir()
