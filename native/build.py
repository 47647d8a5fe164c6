"""Builds `native._native`, cffi (API mode) over native/src, and the launcher.

`python -m native.build` compiles `native._native` in place; packaging finds
`ffibuilder` and `build_launcher` through setup.py.  Imports nothing of what it
builds.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from cffi import FFI

HERE: Final = Path(__file__).resolve().parent
MODULE: Final = "native._native"
INCLUDE: Final = re.compile(r"^#include .*\n", re.MULTILINE)
# The accessors that cffi generates ignore const.
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
    # A mistake in code that handles a guest's data ends the process, before the guest can
    # use it.
    "-fstack-protector-strong",
    "-fstack-clash-protection",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=3",  # glibc falls back to 2 if the compiler lacks support
    "-fcf-protection=full",
    "-ffunction-sections",
)
LINK: Final = (
    "-Wl,-z,relro,-z,now",
    "-Wl,-z,noexecstack",
    "-Wl,-z,shstk",  # crt*.o are not marked; they do not change stacks
    "-Wl,--gc-sections",
)


def make_builder(root: Path) -> FFI:
    """From every cdef/*.h: declarations for cffi, and headers for the code that it
    generates."""
    texts = [path.read_text() for path in sorted((HERE / "cdef").glob("*.h"))]
    builder = FFI()
    for text in texts:
        builder.cdef(INCLUDE.sub("", text))
    builder.set_source(
        MODULE,
        PREAMBLE + "".join(line for text in texts for line in INCLUDE.findall(text)),
        sources=sorted(str(path) for path in (root / "src").glob("*/*.c")),
        include_dirs=[str(HERE / "src")],
        depends=sorted(str(path) for path in (root / "src").glob("*/*.h")),
        extra_compile_args=list(COMPILE),
        libraries=["seccomp"],
        extra_link_args=list(LINK),
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
    # As old as its sources: a file that is edited during the compilation is then
    # newer.
    os.utime(fresh, ns=(started_ns, started_ns))
    fresh.replace(target)
    return target


def build_launcher(target: Path) -> None:
    """native/launcher, a program of its own: containerd-shim-sampan-v2."""
    sources = sorted(str(path) for path in (HERE / "launcher").glob("*.c"))
    compiler = os.environ.get("CC", "cc")
    command = [compiler, *COMPILE, "-fPIE", "-pie", *LINK, "-o", str(target), *sources]
    subprocess.run(command, check=True)


def is_current(target: Path) -> bool:
    """Avoids cffi's full compilation at each call.  The directories' times show
    removed files."""
    files = [*HERE.glob("src/*/*.[ch]"), *HERE.glob("cdef/*.h")]
    inputs = [Path(__file__), *files, *{path.parent for path in files}, HERE / "src"]
    return target.exists() and all(
        path.stat().st_mtime <= target.stat().st_mtime for path in inputs
    )


if __name__ == "__main__":
    build_in_place()
