"""The things that are compared: runtimes, and sampan with one setting changed."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.ctr import Runtime
from shim.config import DEFAULT_PATH, PATH_VARIABLE

SAMPAN: Final = "io.containerd.sampan.v2"
RUNC: Final = "io.containerd.runc.v2"
CONFIGURATION: Final = Path(DEFAULT_PATH)
READY_PROCESS: Final = "sampan-prewarm"


def make_template(runtime: Runtime | None = None) -> None:
    """For sampan as the host configures it, or as a runtime of this file does."""
    environment = dict(os.environ)
    if runtime is not None and runtime.flags:
        environment[PATH_VARIABLE] = runtime.flags[1]
    command = ["sampan", "template", "create"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def make_ready(directory: Path) -> Runtime:
    """sampan with a prewarmed machine for each container."""
    made = make_sampan("sampan-prewarm", directory, prewarmed_machines=1)
    return replace(made, waits_for=READY_PROCESS)


def make_sampan(name: str, directory: Path, **changed: object) -> Runtime:
    """Configured as on this host, except for the changes."""
    lines = CONFIGURATION.read_text().splitlines() if CONFIGURATION.exists() else []
    kept = [line for line in lines if line.split(":")[0] not in changed]
    path = directory / f"{name}.yaml"
    path.write_text("\n".join([*kept, *(f"{key}: {value}" for key, value in changed.items()), ""]))
    return Runtime(name, SAMPAN, ("--runtime-config-path", str(path)))
