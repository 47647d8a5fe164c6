"""Directories keyed by what they were made from, outside the tree.

Owns everything below the cache directory.  An entry appears whole or not at all:
it is made beside its place and renamed.  Callers hold the build lock (lock.py), so
one process at a time builds or prunes.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

DEFAULT_CACHE = Path("/var/cache/sampan-testhost")


def cache_directory() -> Path:
    path = Path(os.environ.get("SAMPAN_TESTHOST_CACHE", DEFAULT_CACHE))
    path.mkdir(parents=True, exist_ok=True)
    return path


def hash_inputs(*inputs: str | bytes | Path) -> str:
    """A key for texts and for the contents of files; absent files count as absent."""
    digest = hashlib.sha256()
    for item in inputs:
        data = read_input(item)
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:16]


def read_input(item: str | bytes | Path) -> bytes:
    if isinstance(item, Path):
        return item.read_bytes() if item.exists() else b"<absent>"
    return item.encode() if isinstance(item, str) else item


def cached(kind: str, key: str, build: Callable[[Path], None], *, keep: int) -> Path:
    """The entry of this kind and key, built first if there is none.

    The `keep` entries of the kind that were used last survive.
    """
    cache = cache_directory()
    entry = cache / f"{kind}-{key}"
    if not entry.exists():
        remove_leftovers(cache)
        making = Path(tempfile.mkdtemp(prefix=f"making-{kind}-", dir=cache))
        try:
            making.chmod(0o755)
            build(making)
            making.rename(entry)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    os.utime(entry)
    prune(cache.glob(f"{kind}-*"), keep)
    return entry


def prune(entries: Iterable[Path], keep: int) -> None:
    by_use = sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in by_use[keep:]:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(cache: Path) -> None:
    """What a killed build left behind: no other build is running."""
    for path in cache.glob("making-*"):
        shutil.rmtree(path, ignore_errors=True)
