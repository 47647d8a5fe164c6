"""Builds `native._native`, cffi (API mode) over native/src, and the launcher.

`python -m native.build` compiles the first in place; packaging finds `ffibuilder`
and `build_launcher` through setup.py.  Imports nothing of what it builds.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from cffi import FFI

HERE: Final = Path(__file__).resolve().parent
MODULE: Final = "native._native"
CDEFS: Final = ("kvm.h", "machine.h", "devices.h", "jail.h")
HEADERS: Final = (
    "linux/if_tun.h",
    "linux/kvm.h",
    "linux/vhost.h",
    "seccomp.h",
    "balloon_device.h",
    "fs_device.h",
    "jail.h",
    "memory.h",
    "net_device.h",
    "pci_window.h",
    "power.h",
    "prefault.h",
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
        libraries=["seccomp"],
        py_limited_api=True,  # one file for every Python 3
    )
    return builder


# setuptools wants sources relative to its working directory, the tree's root.
ffibuilder = make_builder(Path(os.path.relpath(HERE)))


def build_in_place() -> Path:
    """`_native.abi3.so` beside this file; objects stay in build/."""
    target = HERE / "_native.abi3.so"
    if is_current(target):
        return target
    objects = HERE.parent / "build/native"
    started_ns = time.time_ns()
    made = make_builder(HERE).compile(tmpdir=str(objects), verbose="-v" in sys.argv)
    # A new file under the old name: a process that has the old one mapped keeps it.
    fresh = target.with_suffix(".new")
    shutil.copyfile(made, fresh)
    # As old as what went into it: an edit while it was compiled is newer.
    os.utime(fresh, ns=(started_ns, started_ns))
    fresh.replace(target)
    return target


def build_launcher(target: Path) -> None:
    """native/launcher, a program of its own: containerd-shim-sampan-v2."""
    sources = sorted(str(path) for path in (HERE / "launcher").glob("*.c"))
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, *COMPILE, "-o", str(target), *sources], check=True)


def is_current(target: Path) -> bool:
    """cffi would compile everything every time.  The directories stand for files
    that are gone."""
    inputs = [Path(__file__), *HERE.glob("src/*.[ch]"), *HERE.glob("cdef/*.h"), HERE / "src"]
    return target.exists() and all(
        path.stat().st_mtime <= target.stat().st_mtime for path in inputs
    )


if __name__ == "__main__":
    build_in_place()
