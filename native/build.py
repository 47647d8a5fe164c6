"""Builds `native._native`: cffi (API mode) over native/src.

`python -m native.build` compiles it in place; packaging finds `ffibuilder`
through setup.py.  Imports nothing of what it builds.
"""

import os
import sys
from pathlib import Path
from typing import Final

from cffi import FFI

HERE: Final = Path(__file__).resolve().parent
MODULE: Final = "native._native"
CDEFS: Final = ("kvm.h", "machine.h", "devices.h")
HEADERS: Final = (
    "linux/kvm.h",
    "fs_device.h",
    "memory.h",
    "pci_window.h",
    "power.h",
    "serial.h",
    "vcpu.h",
    "vsock_device.h",
)
COMPILE: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread")


def make_builder() -> FFI:
    """Relative to the tree's root where that is the working directory, as
    setuptools wants it; absolute elsewhere."""
    root = Path(os.path.relpath(HERE)) if HERE.parent == Path.cwd() else HERE
    builder = FFI()
    for name in CDEFS:
        builder.cdef((HERE / "cdef" / name).read_text())
    builder.set_source(
        MODULE,
        "".join(f"#include <{header}>\n" for header in HEADERS),
        sources=sorted(str(path) for path in (root / "src").glob("*.c")),
        include_dirs=[str(HERE / "src")],
        depends=sorted(str(path) for path in (root / "src").glob("*.h")),
        extra_compile_args=list(COMPILE),
        libraries=["pthread"],
    )
    return builder


ffibuilder = make_builder()


if __name__ == "__main__":
    print(ffibuilder.compile(tmpdir=str(HERE.parent), verbose="-v" in sys.argv))
