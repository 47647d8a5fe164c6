"""A container's cgroup (v2): its processes, freezing, killing, figures.

crun creates and removes it; a Cgroup only names it.  Spec: the kernel's
Documentation/admin-guide/cgroup-v2.rst, by file and key.
"""

import asyncio
import os
from collections.abc import Iterable
from typing import Final

from agent.errors import NotFound, RuntimeFailure
from agent.watch import FileWatch

MAX_VALUE: Final = (1 << 64) - 1
FREEZE_TIMEOUT_S: Final = 10

SINGLE_FILES: Final = (
    "memory.current",
    "memory.max",
    "memory.peak",
    "memory.swap.current",
    "memory.swap.max",
    "memory.swap.peak",
    "pids.current",
    "pids.max",
    "pids.peak",
)
KEYED_FILES: Final = ("memory.stat", "memory.events", "cpu.stat", "pids.events")
NESTED_FILES: Final = ("io.stat",)


def parse_single(text: str) -> dict[str, int]:
    """`4096` or `max`, under the key ""."""
    return {"": parse_value(text.strip())}


def parse_keyed(text: str) -> dict[str, int]:
    """One `key value` for each line."""
    return {key: parse_value(value) for key, value in map(str.split, text.splitlines())}


def parse_nested(text: str) -> dict[str, int]:
    """Lines as `8:0 rbytes=1 wbytes=2`; the first key is "8:0 rbytes"."""
    values = {}
    for line in text.splitlines():
        name, *pairs = line.split()
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if equals:
                values[f"{name} {key}"] = parse_value(value)
    return values


def parse_value(text: str) -> int:
    return MAX_VALUE if text == "max" else int(text)


PARSERS: Final = {
    **dict.fromkeys(SINGLE_FILES, parse_single),
    **dict.fromkeys(KEYED_FILES, parse_keyed),
    **dict.fromkeys(NESTED_FILES, parse_nested),
}


class Cgroup:
    def __init__(self, root: str, path: str) -> None:
        self._directory = f"{root}/{path.strip('/')}"

    def path_of(self, file: str) -> str:
        return f"{self._directory}/{file}"

    def list_processes(self) -> list[int]:
        """Every process at or below it."""
        found: set[int] = set()
        for directory, _, _ in os.walk(self._directory):
            text = read_file(f"{directory}/cgroup.procs")
            found.update(int(line) for line in (text or "").split())
        return sorted(found)

    def kill(self) -> None:
        """Sends SIGKILL to all its processes, also to those that are being forked."""
        try:
            write_file(self.path_of("cgroup.kill"), "1")
        except OSError:
            return  # never made, or gone with its processes

    def is_frozen(self) -> bool:
        text = read_file(self.path_of("cgroup.events"))
        return text is not None and parse_keyed(text).get("frozen") == 1

    async def set_frozen(self, frozen: bool, files: FileWatch) -> None:
        """Returns when every process has stopped, or may run again."""
        changed = asyncio.Event()
        try:
            watch = files.add(self.path_of("cgroup.events"), changed.set)
        except FileNotFoundError:
            raise NotFound(f"cgroup {self._directory} does not exist") from None
        try:
            write_file(self.path_of("cgroup.freeze"), "1" if frozen else "0")
            async with asyncio.timeout(FREEZE_TIMEOUT_S):
                while self.is_frozen() != frozen:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            raise RuntimeFailure(
                f"{self._directory} did not freeze or thaw within {FREEZE_TIMEOUT_S} s"
            ) from None
        finally:
            files.remove(watch)

    def read_stats(self) -> dict[str, dict[str, int]]:
        """Values by file and key; files of controllers that the kernel lacks are left
        out."""
        stats = self._read(PARSERS)
        if not stats:
            raise NotFound(f"cgroup {self._directory} does not exist")
        return stats

    def read_memory(self) -> dict[str, dict[str, int]]:
        """Values that tell how close it is to its limit; empty once the cgroup is
        gone."""
        return self._read(("memory.current", "memory.max", "memory.stat"))

    def _read(self, files: Iterable[str]) -> dict[str, dict[str, int]]:
        stats = {}
        for name in files:
            text = read_file(self.path_of(name))
            if text is not None:
                stats[name] = PARSERS[name](text)
        return stats

    def count_oom_kills(self) -> int:
        text = read_file(self.path_of("memory.events"))
        return parse_keyed(text).get("oom_kill", 0) if text is not None else 0


def read_file(path: str) -> str | None:
    """None without the file: no such controller, or the cgroup is gone."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read().decode()
    except OSError:
        return None


def write_file(path: str, text: str) -> None:
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())
