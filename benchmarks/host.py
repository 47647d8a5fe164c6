"""The host of the figures: facts that a reader needs to judge them."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from shim.config import load_config

GROUND: Final = "ground of times"


def read_facts() -> dict[str, str]:
    facts = {
        "kernel": platform.release(),
        "guest kernel": read_guest_kernel(),
        "processor": read_processor(),
        GROUND: name_ground(read_processor()),
        "cpus": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 20} MiB",
        "machine": read_machine(),
        "python": platform.python_version(),
    }
    for program in ("containerd", "runc"):
        facts[program] = first_line([program, "--version"])
    return facts


def read_guest_kernel() -> str:
    try:
        manifest = json.loads((Path(load_config().image_dir) / "manifest.json").read_text())
        return str(manifest["kernel_release"])
    except (OSError, ValueError, KeyError):
        return "unknown"


def read_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def name_ground(processor: str) -> str:
    """The kind of this host's times.  If it is emulated, only their ratios are
    meaningful."""
    return "emulated" if "QEMU TCG" in processor else "hardware speed"


def read_machine() -> str:
    """Vendor and product; an emulated machine names its emulator."""
    path = Path("/sys/class/dmi/id")
    try:
        return " ".join(
            (path / name).read_text().strip() for name in ("sys_vendor", "product_name")
        )
    except OSError:
        return "unknown"


def first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError as error:
        return f"none ({error.strerror})"
    lines = done.stdout.splitlines()
    return lines[0] if lines else "unknown"
