"""Makes a directory beside another, and puts it in the other's place in one step.

Owns the scratch directory while it is open.  Python has rename(2) only, which
cannot replace a directory that is not empty: renameat2(RENAME_EXCHANGE) can, and is
called in libc.
"""

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

AT_FDCWD: Final = -100  # linux/fcntl.h
RENAME_EXCHANGE: Final = 1 << 1  # linux/fs.h
UNSUPPORTED: Final = (errno.EINVAL, errno.ENOSYS, errno.EXDEV)


@contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """Removed at the end, together with those that an interrupted build has left."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{prefix}*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f".{prefix}", suffix=".tmp", dir=parent))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def exchange_directories(fresh: Path, target: Path) -> None:
    """`target` becomes `fresh`; what was at `target`, if anything, is then at `fresh`."""
    if not target.exists():
        fresh.rename(target)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(
        AT_FDCWD, os.fsencode(fresh), AT_FDCWD, os.fsencode(target), RENAME_EXCHANGE
    )
    if result == 0:
        return
    error = ctypes.get_errno()
    if error not in UNSUPPORTED:
        raise OSError(error, f"renameat2: {os.strerror(error)}", str(target))
    # Not every file system can exchange: then `target` is missing for a moment.
    aside = fresh.with_name(fresh.name + ".old")
    target.rename(aside)
    fresh.rename(target)
    aside.rename(fresh)
