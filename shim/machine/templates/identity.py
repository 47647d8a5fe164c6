"""Which machines can be clones of one template, and the template of a class.

A template's name is a digest of everything that a snapshot depends on: when any of
that changes, the name changes, and the old template is not found any more.  A lookup
is cheap: it reads a few small files.  shim/machine/templates/store.py has the rest of
a template's life.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proto.contract import PROTOCOL_VERSION
from shim.config import Config
from shim.errors import HostResource
from shim.host.spawn import TREE
from shim.machine.size import MachineSize
from shim.version import VERSION

NAME_DIGITS: Final = 24
DESCRIPTION: Final = "template.json"
MEMORY: Final = "memory"
VMM_CODE: Final = ("shim/vmm", "proto")
CPU_BYTES: Final = 4096
"""The first processor's part of /proc/cpuinfo: with hundreds, reading all takes long."""
CPU_FIELDS: Final = frozenset(
    ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")
)


@dataclass(frozen=True, slots=True)
class MachineClass:
    """Machines that can be clones of one template."""

    size: MachineSize
    nics: int
    scope: str = ""
    """The tenant who alone uses it; "" is a template of all."""


def describe_class(config: Config, machine: MachineClass) -> dict[str, Any]:
    """Everything that a snapshot depends on."""
    host = os.uname()
    return {
        "protocol": PROTOCOL_VERSION,
        "sampan": VERSION,
        "vmm": digest_code(str(TREE)),
        "vcpus": machine.size.vcpus,
        "memory_bytes": machine.size.memory_bytes,
        "nics": machine.nics,
        "scope": machine.scope,
        "kernel": [config.kernel_path, *identify(config.kernel_path)],
        "kernel_arguments": config.kernel_arguments,
        "image": [config.image_root, *identify(config.image_root)],
        "manifest": digest_text(Path(config.image_dir, "manifest.json")),
        "native": [identify(str(path)) for path in sorted(TREE.glob("native/_native*.so"))],
        "host_kernel": [host.release, host.version],
        "processor": read_processor(),
    }


def identify(path: str) -> list[int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise HostResource(f"{path}: {error.strerror}") from error
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def digest_text(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""  # an image that was made by hand has none


def digest_code(tree: str) -> str:
    """Of the code that builds a machine: by size and time, so that no file is read."""
    stamps = sorted(stamp for name in VMM_CODE for stamp in list_stamps(f"{tree}/{name}"))
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


def list_stamps(directory: str) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of each module at and below a directory."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                found = entry.stat()
                yield entry.path, found.st_size, found.st_mtime_ns
            elif entry.is_dir() and entry.name.isidentifier() and entry.name != "__pycache__":
                yield from list_stamps(entry.path)


def read_processor() -> dict[str, str]:
    with open("/proc/cpuinfo", "rb") as file:
        lines = file.read(CPU_BYTES).decode(errors="replace").partition("\n\n")[0].splitlines()
    fields = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in fields if key.strip() in CPU_FIELDS}


def name_class(described: dict[str, Any]) -> str:
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_DIGITS]


def find_template(config: Config, machine: MachineClass) -> str:
    """Its directory; "" when there is none for such a machine."""
    path = os.path.join(config.templates_dir, name_class(describe_class(config, machine)))
    return path if os.path.exists(f"{path}/{DESCRIPTION}") else ""


def use_template(config: Config, machine: MachineClass) -> str:
    """As find_template, and marks it as used just now."""
    path = find_template(config, machine)
    if path:
        with suppress(OSError):
            os.utime(f"{path}/{DESCRIPTION}")
    return path


def read_number(directory: str) -> int:
    """Tells a template from its successor, and from itself after a change; 0 for none."""
    try:
        return os.stat(f"{directory}/{MEMORY}").st_ctime_ns if directory else 0
    except OSError:
        return 0
