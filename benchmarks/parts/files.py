"""The FUSE server's part: this machine's kernel is its client, over /dev/fuse."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.integration.fuse_share import Share, build_server

SMALL_FILES: Final = 200
LARGE_BYTES: Final = 32 << 20
BLOCK: Final = b"x" * (1 << 20)


def measure_files(place: Path, rounds: int) -> dict[str, list[float]]:
    """Microseconds for a small file, MiB/s for a large one; on the directory itself too."""
    server = build_server(place / "fuse_mount")
    taken: dict[str, list[float]] = {}
    for policy, name in (("direct", "the directory itself"), ("exclusive", "FUSE, exclusive")):
        work = place / policy
        work.mkdir()
        with Share(server, work, policy) as share:
            for what, measure in MEASURES.items():
                taken[f"{name}: {what}"] = [measure(share.root) for _ in range(rounds)]
    return taken


def time_created(root: Path) -> float:
    directory = root / "small"
    directory.mkdir()
    begun = time.perf_counter()
    for number in range(SMALL_FILES):
        (directory / str(number)).write_bytes(b"small")
    spent = time.perf_counter() - begun
    shutil.rmtree(directory)
    return spent / SMALL_FILES * 1e6


def time_written(root: Path) -> float:
    begun = time.perf_counter()
    with (root / "large").open("wb", buffering=0) as file:
        for _ in range(LARGE_BYTES // len(BLOCK)):
            file.write(BLOCK)
        os.fdatasync(file.fileno())
    return LARGE_BYTES / (1 << 20) / (time.perf_counter() - begun)


def time_read(root: Path) -> float:
    """Not in the client's page cache."""
    fd = os.open(root / "large", os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        while os.read(fd, len(BLOCK)):
            pass
        return LARGE_BYTES / (1 << 20) / (time.perf_counter() - begun)
    finally:
        os.close(fd)


MEASURES: Final[dict[str, Callable[[Path], float]]] = {
    "a file of 5 bytes created, us": time_created,
    "32 MiB written and synchronized, MiB/s": time_written,
    "32 MiB read, MiB/s": time_read,
}
