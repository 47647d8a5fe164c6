"""What is measured beside each other: runtimes, and sampan with one setting changed."""

import subprocess
from pathlib import Path
from typing import Final

from benchmarks.ctr import Runtime
from shim.config import DEFAULT_PATH

SAMPAN: Final = "io.containerd.sampan.v2"
RUNC: Final = "io.containerd.runc.v2"
CONFIGURATION: Final = Path(DEFAULT_PATH)


def make_template(*sizes: str) -> None:
    """For sampan as the host has it; `sizes` are options of the command."""
    command = ["sampan", "template", "create", *sizes]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make_sampan(name: str, directory: Path, **changed: object) -> Runtime:
    """Configured as this host is, but for what is changed."""
    lines = CONFIGURATION.read_text().splitlines() if CONFIGURATION.exists() else []
    kept = [line for line in lines if line.split(":")[0] not in changed]
    path = directory / f"{name}.yaml"
    path.write_text("\n".join([*kept, *(f"{key}: {value}" for key, value in changed.items()), ""]))
    return Runtime(name, SAMPAN, ("--runtime-config-path", str(path)))
