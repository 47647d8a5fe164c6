"""Templates that are made automatically, after a container's machine had to boot.

Two halves.  The shim starts a process that outlives it (`start_in_background`); that
process, `sampan template ensure`, checks whether a template is wanted, and makes it
(`ensure_template`).
"""

import logging
import os
import time
from pathlib import Path
from typing import Final

from shim.config import PATH_VARIABLE, Config
from shim.errors import AlreadyExists, HostResource, NotFound, SampanError
from shim.host.cgroup import HostCgroup
from shim.host.spawn import PYTHON, spawn
from shim.machine.size import MIB
from shim.machine.templates.identity import (
    DESCRIPTION,
    MachineClass,
    describe_class,
    name_class,
    read_number,
)
from shim.machine.templates.maker import make_template_alone
from shim.machine.templates.store import (
    Template,
    get_template,
    list_templates,
    remove_template,
    verify_template,
)

NICENESS: Final = 19
MOUNTS_FD: Final = 3
FAILURE_S: Final = 600
"""After a failure the next attempt is made no earlier."""
log = logging.getLogger(__name__)


def start_in_background(
    machine_class: MachineClass,
    refused: str,
    config_path: str,
    mounts: int,
    log_fd: int,
    cgroup: HostCgroup | None = None,
) -> None:
    """`refused`: the template that a machine could not be restored from, or "".
    `mounts`: the mount namespace outside the sandbox's; `cgroup`: the sandbox's."""
    command = (
        *("nsenter", f"--mount=/proc/self/fd/{MOUNTS_FD}", "--wd=/", "--"),
        *("nice", "-n", str(NICENESS), *PYTHON, "shim"),
        *("template", "ensure", "--vcpus", str(machine_class.size.vcpus)),
        *("--memory-mib", str(machine_class.size.memory_bytes // MIB)),
        *("--nics", str(machine_class.nics), "--refused", str(read_number(refused))),
    )
    named = {PATH_VARIABLE: config_path} if config_path else {}
    try:
        # Reaped by this process's Reaper, if it ends before this process.
        child = spawn(command, {**os.environ, **named}, log_fd, (mounts, MOUNTS_FD), setsid=True)
        if cgroup is not None:
            cgroup.send_back(child)
    except OSError as error:
        log.warning("no template is made: %s: %s", command[0], error.strerror)


def ensure_template(config: Config, machine_class: MachineClass, refused: int = 0) -> None:
    """Makes one unless a good one exists, one is being made, or an attempt has just failed.

    `refused`: the number of one that a machine could not be restored from.
    """
    name = name_class(describe_class(config, machine_class))
    note = Path(config.templates_dir, f".failed-{name}")
    if is_fresh(note) or is_usable(config, name, refused):
        return
    remove_surplus(config)
    try:
        make_template_alone(config, machine_class)
    except AlreadyExists:
        return
    except (SampanError, OSError):
        os.makedirs(config.templates_dir, mode=0o700, exist_ok=True)
        note.touch()
        raise
    note.unlink(missing_ok=True)


def is_usable(config: Config, name: str, refused: int) -> bool:
    """Removes one that is damaged or cannot be used on this host."""
    try:
        template = get_template(config, name)
    except NotFound:
        return False
    try:
        if read_number(template.path) == refused:
            raise HostResource(f"{template.path}: a machine could not be restored from it")
        verify_template(template)
    except SampanError as error:
        log.warning("a template is made again: %s", error)
        remove_template(template)
        return False
    return True


def is_fresh(note: Path) -> bool:
    try:
        return time.time() - note.stat().st_mtime < FAILURE_S
    except FileNotFoundError:
        return False


def remove_surplus(config: Config) -> None:
    """For one more: removes those that were least recently used."""
    templates = sorted(list_templates(config), key=read_last_use)
    for template in templates[: max(0, len(templates) - config.max_templates + 1)]:
        remove_template(template)


def read_last_use(template: Template) -> float:
    return os.stat(f"{template.path}/{DESCRIPTION}").st_mtime
