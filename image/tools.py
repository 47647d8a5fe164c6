"""Runs the programs that the build needs, and says which are missing.

Owns no files.  Every call is synchronous and waits for its program.  Installing
anything is left to the Makefile: the message names the Debian package.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from image.errors import ToolError

DEBIAN_PACKAGE: Final = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "ldconfig": "libc-bin",
    "chroot": "coreutils",
    "zstd": "zstd",
    "ld": "binutils",
    "objcopy": "binutils",
    "xz": "xz-utils",
    "gelf.h": "libelf-dev",
    "stdio.h": "libc6-dev",
}
HEADERS: Final = Path("/usr/include")
SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_SHOWN_LINES: Final = 8


def require_tools(names: Sequence[str]) -> None:
    """Raises ToolError that names every missing program, or header of C, at once."""
    missing = [name for name in names if not has_tool(name)]
    if missing:
        packages = sorted({DEBIAN_PACKAGE.get(name, name) for name in missing})
        raise ToolError(
            f"missing: {', '.join(missing)}; on Debian: apt-get install {' '.join(packages)}"
        )


def has_tool(name: str) -> bool:
    if name.endswith(".h"):
        return (HEADERS / name).exists()
    return shutil.which(name, path=SEARCH_PATH) is not None


def run_tool(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    env: dict[str, str] | None = None,
) -> bytes:
    """The program's stdout.  ToolError carries the end of its stderr."""
    words = [str(word) for word in command]
    base = env if env is not None else dict(os.environ)
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            input=stdin if stdin is not None else b"",
            capture_output=True,
            env={**base, "LC_ALL": "C.UTF-8", "PATH": f"{SEARCH_PATH}:{base.get('PATH', '')}"},
            check=False,
        )
    except OSError as error:
        raise ToolError(f"{words[0]}: {error.strerror}") from error
    if done.returncode != 0:
        raise ToolError(f"{words[0]} failed ({done.returncode}): {shorten_stderr(done.stderr)}")
    return done.stdout


def shorten_stderr(stderr: bytes) -> str:
    """The relevant lines: errors of apt and pip if there are any, else the end."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "ERROR:"))]
    return "; ".join((errors or lines)[-MAX_SHOWN_LINES:])
