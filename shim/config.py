"""/etc/sampan/config.yaml: what an administrator decides.

Optional; every key has a default.  An unknown key or a value out of range is
an InvalidArgument that names file, key and value: a misspelt limit must not
be ignored.  SAMPAN_CONFIG names another file.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from shim.errors import InvalidArgument

DEFAULT_PATH: Final = "/etc/sampan/config.yaml"
PATH_VARIABLE: Final = "SAMPAN_CONFIG"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
HOST_NAMESPACES: Final = ("refuse", "guest")
HOST_CGROUP: Final = ("always", "never")
TEMPLATES: Final = ("auto", "use", "never")
TEMPLATE_SCOPES: Final = ("host", "namespace")
VHOST_NET: Final = ("auto", "never")
JAIL: Final = ("on", "require", "log", "off")


@dataclass(frozen=True, slots=True)
class Config:
    image_dir: str = "/var/lib/sampan/image"
    """As `sampan image build` makes it: vmlinux and root/."""
    kernel: str = ""
    """An uncompressed x86-64 vmlinux in place of the image's."""
    kernel_arguments: str = ""
    """Appended to the guest's command line."""
    templates: str = "auto"
    """Containers start from a template if there is one; otherwise they boot, and one is made
    for later containers (`auto`) or not (`use`).  `never`: each boots."""
    template_scope: str = "host"
    """Who shares a template: all containers of the host, or only those of one namespace, as
    containerd calls its tenants."""
    templates_dir: str = "/var/lib/sampan/templates"
    max_templates: int = 8
    """A template that is made automatically replaces the least recently used one."""
    prewarmed_machines: int = 0
    """Prewarmed machines for the next containers of the class that was last requested.
    Each holds some 80 MiB, much of it shared with other clones."""
    vcpus: int = 1
    """For a container without a CPU limit."""
    max_vcpus: int = 32
    memory_mib: int = 1024
    """For a container without a memory limit."""
    memory_overhead_mib: int = 128
    """Added to a container's limit: the guest's kernel and agent."""
    max_memory_mib: int = 1 << 20
    nics: int = 1
    """The least number of a machine's network interfaces.  A machine gets more if its
    namespace has more when it starts; later ones use what is left."""
    vhost_net: str = "auto"
    """Packets are moved by the host's kernel where it has /dev/vhost-net (`auto`), or
    always by the vmm (`never`)."""
    host_namespaces: str = "refuse"
    """A container that would share the host's network or processes is refused, or
    gets those of its guest."""
    host_cgroup: str = "always"
    """A sandbox's processes live in the cgroup that its spec names, which bounds them."""
    host_overhead_mib: int = 256
    """Memory that they may use there beside the machine's."""
    jail: str = "on"
    """What a vmm may do once its guest runs.  `on`: the system calls of a list; `require`:
    these and what Landlock allows, or nothing runs; `log`: everything, but the kernel logs
    what `on` would end it for; `off`: everything."""
    agent_timeout_s: float = 120.0
    """From the start of a machine until its agent answers."""
    log_level: str = "info"
    console_limit_bytes: int = 1 << 20
    vmm_cpus: tuple[int, ...] = ()
    """The host's processors that machines run on; empty: all that the shim may use."""
    vmm_command: tuple[str, ...] = ()
    """Runs a machine in place of our own vmm: for tests."""

    @property
    def kernel_path(self) -> str:
        return self.kernel or f"{self.image_dir}/vmlinux"

    @property
    def image_root(self) -> str:
        return f"{self.image_dir}/root"


def load_config(path: str | None = None) -> Config:
    """The defaults if the usual file does not exist; a file that is named must exist."""
    named = path or os.environ.get(PATH_VARIABLE)
    try:
        text = Path(named or DEFAULT_PATH).read_text()
    except FileNotFoundError as error:
        if named:
            raise InvalidArgument(f"{named}: no such configuration file") from error
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{named or DEFAULT_PATH}: {error}") from error
    return parse_config(text, named or DEFAULT_PATH)


def parse_config(text: str, path: str) -> Config:
    # Costs 20 ms, which a machine without a configuration file need not pay.
    import yaml  # noqa: PLC0415

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidArgument(f"{path}: {error}") from error
    if values is None:
        return Config()
    if not isinstance(values, dict):
        raise InvalidArgument(f"{path}: expected keys and values, is {values!r}")
    checked = {key: check_value(path, key, value) for key, value in values.items()}
    config = replace(Config(), **checked)
    check_bounds(path, config)
    return config


def check_value(path: str, key: Any, value: Any) -> Any:
    rule = RULES.get(key)
    if rule is None:
        raise InvalidArgument(f"{path}: unknown key {key!r}; known are {', '.join(sorted(RULES))}")
    try:
        return rule(value)
    except ValueError as error:
        raise InvalidArgument(f"{path}: {key}: {error}, is {value!r}") from error


def check_bounds(path: str, config: Config) -> None:
    for key, limit in (("vcpus", "max_vcpus"), ("memory_mib", "max_memory_mib")):
        if getattr(config, key) > getattr(config, limit):
            raise InvalidArgument(
                f"{path}: {key}: {getattr(config, key)} is above {limit}, {getattr(config, limit)}"
            )


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return check


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 3600:
        raise ValueError("expected a number of seconds from 1 to 3600")
    return float(value)


def _absolute_path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError("expected an absolute path")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("expected one line of text")
    return value


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return str(value)

    return check


def _jail(value: Any) -> str:
    """YAML reads `on` and `off` as booleans."""
    return _one_of(JAIL)(
        {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    )


def _cpus(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(
        type(cpu) is int and 0 <= cpu < 8192 for cpu in value
    ):
        raise ValueError("expected a list of processors' numbers")
    return tuple(value)


def _command(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError("expected a list of words")
    return tuple(value)


RULES: Final[dict[str, Callable[[Any], Any]]] = {
    "image_dir": _absolute_path,
    "kernel": _absolute_path,
    "kernel_arguments": _text,
    "templates": _one_of(TEMPLATES),
    "template_scope": _one_of(TEMPLATE_SCOPES),
    "templates_dir": _absolute_path,
    "max_templates": _whole(1, 1000),
    "prewarmed_machines": _whole(0, 64),
    "vcpus": _whole(1, 255),
    "max_vcpus": _whole(1, 255),
    "memory_mib": _whole(64, 1 << 24),
    "memory_overhead_mib": _whole(0, 1 << 20),
    "max_memory_mib": _whole(64, 1 << 24),
    "agent_timeout_s": _seconds,
    "nics": _whole(0, 8),
    "vhost_net": _one_of(VHOST_NET),
    "host_namespaces": _one_of(HOST_NAMESPACES),
    "host_cgroup": _one_of(HOST_CGROUP),
    "host_overhead_mib": _whole(64, 1 << 20),
    "jail": _jail,
    "log_level": _one_of(LOG_LEVELS),
    "console_limit_bytes": _whole(4096, 1 << 30),
    "vmm_cpus": _cpus,
    "vmm_command": _command,
}
assert set(RULES) == {field.name for field in fields(Config)}  # noqa: S101
