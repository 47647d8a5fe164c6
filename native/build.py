"""Builds `native._native`: cffi (API mode) over native/src.

`python -m native.build` compiles it in place; packaging finds `ffibuilder`
through setup.py.  Imports nothing of what it builds.
"""

import os
import shutil
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
# The accessors that cffi writes know no const.
PREAMBLE: Final = '#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"\n'
COMPILE: Final = (
    "-std=gnu11",
    "-O2",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",
    "-fvisibility=hidden",
    "-pthread",
)


def make_builder(root: Path) -> FFI:
    builder = FFI()
    for name in CDEFS:
        builder.cdef((HERE / "cdef" / name).read_text())
    builder.set_source(
        MODULE,
        PREAMBLE + "".join(f"#include <{header}>\n" for header in HEADERS),
        sources=sorted(str(path) for path in (root / "src").glob("*.c")),
        include_dirs=[str(HERE / "src")],
        depends=sorted(str(path) for path in (root / "src").glob("*.h")),
        extra_compile_args=list(COMPILE),
        py_limited_api=True,  # one file for every Python 3
    )
    return builder


# setuptools wants sources relative to its working directory, the tree's root.
ffibuilder = make_builder(Path(os.path.relpath(HERE)))


def build_in_place() -> Path:
    """Objects stay in build/, so that only what changed is compiled again."""
    objects = HERE.parent / "build/native"
    made = make_builder(HERE).compile(tmpdir=str(objects), verbose="-v" in sys.argv)
    target = HERE / Path(made).name
    # A new file under the old name: a process that has the old one mapped keeps it.
    fresh = target.with_suffix(".new")
    shutil.copyfile(made, fresh)
    fresh.replace(target)
    return target


if __name__ == "__main__":
    build_in_place()
