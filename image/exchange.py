"""Puts one directory in the place of another in one step.

Owns nothing.  Python has rename(2) only, which cannot replace a directory that
has something in it: renameat2(RENAME_EXCHANGE) can, and is called in libc.
"""

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

AT_FDCWD: Final = -100  # linux/fcntl.h
RENAME_EXCHANGE: Final = 1 << 1  # linux/fs.h
UNSUPPORTED: Final = (errno.EINVAL, errno.ENOSYS, errno.EXDEV)


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
    # Not every file system exchanges: then there is a moment without `target`.
    aside = fresh.with_name(fresh.name + ".old")
    target.rename(aside)
    fresh.rename(target)
    aside.rename(fresh)
