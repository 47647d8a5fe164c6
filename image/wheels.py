"""Fetches the guest's Python packages as wheels and unpacks them.

Versions and hashes are those of wheels.txt beside this file; where they come from
is pip's own configuration.  The wheels are for the guest's Python, not for the one
that runs this code.
"""

import hashlib
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.errors import FetchError, FormatError, ToolError
from image.tools import run_tool

LOCK_FILE: Final = Path(__file__).with_name("wheels.txt")
GUEST_PYTHON: Final = "3.13"
PLATFORMS: Final = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64")
ABIS: Final = ("cp313", "abi3", "none")


@dataclass(frozen=True)
class Wheel:
    """A wheel on disk, verified by pip against wheels.txt."""

    name: str
    version: str
    sha256: str
    path: Path


def fetch_wheels(directory: Path) -> list[Wheel]:
    """Leaves exactly the locked wheels in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.whl"):
        stale.unlink()
    try:
        run_tool(pip_command(directory))
    except ToolError as error:
        if "No module named pip" in str(error):
            raise ToolError(f"{sys.executable} has no pip; apt-get install python3-pip") from error
        raise FetchError(f"Python packages of {LOCK_FILE.name}: {error}") from error
    return [describe_wheel(path) for path in sorted(directory.glob("*.whl"))]


def pip_command(directory: Path) -> list[str]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--requirement", str(LOCK_FILE)]
    command += ["--python-version", GUEST_PYTHON, "--implementation", "cp"]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    command += [word for abi in ABIS for word in ("--abi", abi)]
    return [*command, "--dest", str(directory)]


def describe_wheel(path: Path) -> Wheel:
    name, version = path.name.split("-")[:2]
    return Wheel(name, version, hashlib.sha256(path.read_bytes()).hexdigest(), path)


def unpack_wheels(wheels: Sequence[Wheel], directory: Path) -> None:
    """Unpacks code only: the .dist-info folders are left out, as nothing in the guest
    reads them."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel.path) as archive:
            for info in archive.infolist():
                top = info.filename.split("/")[0]
                if top.endswith(".data"):
                    raise FormatError(f"{wheel.path.name}: {top} needs an installer")
                if not top.endswith(".dist-info"):
                    archive.extract(info, directory)
