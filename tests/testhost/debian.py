"""Makes Debian roots with mmdebstrap from this machine's own mirror."""

from collections.abc import Sequence
from pathlib import Path

from tests.testhost.mirror import Source, apt_settings
from tests.testhost.quiet import run_quietly

SUITE = "trixie"
# Nothing in a test reads these, and they are a third of the files.
EXCLUDED = ("doc", "man", "info", "locale", "lintian")


def bootstrap_directory(root: Path, packages: Sequence[str], source: Source) -> None:
    run_mmdebstrap(root, packages, source, "directory")


def bootstrap_tar(tar: Path, packages: Sequence[str], source: Source) -> None:
    run_mmdebstrap(tar, packages, source, "tar")


def run_mmdebstrap(target: Path, packages: Sequence[str], source: Source, form: str) -> None:
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--format={form}"]
    command += [f"--include={','.join(packages)}"]
    # The machine's apt is used, its configuration is not: carry how mirrors are reached.
    command += [f"--aptopt={line}" for line in apt_settings()]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in EXCLUDED]
    command += [source.suite, str(target), source.to_line()]
    run_quietly(command)
