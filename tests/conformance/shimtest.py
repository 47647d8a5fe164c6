"""containerd's shimtest as a program: run against one shim, its output kept in a file.

`binaries` has what `make shimtest` builds: shimtest.test and testbin.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HOST_CONFIG: Final = Path("/etc/sampan/config.yaml")
SHIMS: Final = {
    "io.containerd.sampan.v2": "containerd-shim-sampan-v2",
    "io.containerd.runc.v2": "containerd-shim-runc-v2",
}
SKIPPED: Final = {
    "transfer": "the transfer service copies files for `ctr`; it is not part of the Task API",
    "uds": "mounts of type uds are not OCI's: a host's socket in the guest is of its own",
    "layers": "needs a shim that mounts erofs layers itself (containerd 2.2's format/ mounts)",
}
"""Left out of all runs, as in the suite's own configuration for runc; why, for us."""


def run_shimtest(shim: str, binaries: Path, output: Path, flags: Sequence[str]) -> int:
    """The exit status; the report is in `output`, what else was said beside it."""
    profile = output.parent / "shim.json"
    binary = shutil.which(shim)  # by its path alone the suite looks for leaked shims
    profile.write_text(json.dumps({"shim_binary": binary, "skip": list(SKIPPED), "uid": 0}))
    command = [str(binaries / "shimtest.test"), f"-shimtest.config={profile}", *flags]
    environment = {
        "SHIMTEST_TESTBIN": str(binaries / "testbin"),
        "SAMPAN_CONFIG": str(write_config(output.parent)),
    }
    with output.open("wb") as report, output.with_suffix(".stderr").open("wb") as rest:
        done = subprocess.run(
            command, env=os.environ | environment, stdout=report, stderr=rest, check=False
        )
    return done.returncode


def make_template() -> None:
    """For the suite's containers, which have no network of their own."""
    command = ["sampan", "template", "create", "--nics", "0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def write_config(directory: Path) -> Path:
    """The suite's specs have a mount namespace and no other."""
    path = directory / "config.yaml"
    path.write_text("host_namespaces: guest\n")
    if HOST_CONFIG.exists():
        path.write_text(HOST_CONFIG.read_text() + path.read_text())
    return path
