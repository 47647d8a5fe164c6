"""The code that a process runs, and whether the installed code is still the same.

Owns nothing.  An Installation is recorded once, after everything is imported.  It
represents all code by the files of our own modules and of the interpreter, and the
directories that packages are installed into.
"""

import os
import sys
from typing import Final

OWN_PACKAGES: Final = ("shim", "proto", "native")
Stamp = tuple[int, int, int]


class Installation:
    def __init__(self) -> None:
        self._stamps = {path: read_stamp(path) for path in sorted(find_code())}

    def is_current(self) -> bool:
        return all(read_stamp(path) == stamp for path, stamp in self._stamps.items())


def find_code() -> set[str]:
    """For each change of a package pip makes or removes an entry of site-packages."""
    own = {
        file
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in OWN_PACKAGES and (file := getattr(module, "__file__", None))
    }
    return own | {sys.executable} | {path for path in sys.path if os.path.isdir(path)}


def read_stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
