"""Templates that are made by themselves: a container that had to boot offers its class.

Two halves.  The shim starts a process that outlives it (`start_offer`); that
process, `sampan template offer`, sees whether a template is wanted, and makes it
(`offer_template`).
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
"""After a failure no other try is made for so long."""
log = logging.getLogger(__name__)


def start_offer(
    machine_class: MachineClass,
    refused: str,
    config_path: str,
    mounts: int,
    log_fd: int,
    cgroup: HostCgroup | None = None,
) -> None:
    """`refused`: the template that a machine did not go on from, or "".
    `mounts`: the mount namespace that the sandbox does not live in; `cgroup`: its cgroup."""
    command = (
        *("nsenter", f"--mount=/proc/self/fd/{MOUNTS_FD}", "--wd=/", "--"),
        *("nice", "-n", str(NICENESS), *PYTHON, "shim"),
        *("template", "offer", "--vcpus", str(machine_class.size.vcpus)),
        *("--memory-mib", str(machine_class.size.memory_bytes // MIB)),
        *("--nics", str(machine_class.nics), "--refused", str(read_number(refused))),
    )
    named = {PATH_VARIABLE: config_path} if config_path else {}
    try:
        # Reaped by whoever reaps here, if it ends before we do.
        child = spawn(command, {**os.environ, **named}, log_fd, (mounts, MOUNTS_FD), setsid=True)
        if cgroup is not None:
            cgroup.send_back(child)
    except OSError as error:
        log.warning("no template is made: %s: %s", command[0], error.strerror)


def offer_template(config: Config, machine_class: MachineClass, refused: int = 0) -> None:
    """Makes one unless there is a good one, or it is being made, or a try has just failed.

    `refused`: the number of one from which a machine could not go on.
    """
    name = name_class(describe_class(config, machine_class))
    note = Path(config.templates_dir, f".failed-{name}")
    if is_fresh(note) or is_good(config, name, refused):
        return
    make_room(config)
    try:
        make_template_alone(config, machine_class)
    except AlreadyExists:
        return
    except (SampanError, OSError):
        os.makedirs(config.templates_dir, mode=0o700, exist_ok=True)
        note.touch()
        raise
    note.unlink(missing_ok=True)


def is_good(config: Config, name: str, refused: int) -> bool:
    """One that is spoilt, or of no use on this host, is removed."""
    try:
        template = get_template(config, name)
    except NotFound:
        return False
    try:
        if read_number(template.path) == refused:
            raise HostResource(f"{template.path}: a machine could not go on from it")
        verify_template(template)
    except SampanError as error:
        log.warning("a template is made anew: %s", error)
        remove_template(template)
        return False
    return True


def is_fresh(note: Path) -> bool:
    try:
        return time.time() - note.stat().st_mtime < FAILURE_S
    except FileNotFoundError:
        return False


def make_room(config: Config) -> None:
    """For one more: those go that were used the longest time ago."""
    templates = sorted(list_templates(config), key=read_last_use)
    for template in templates[: max(0, len(templates) - config.max_templates + 1)]:
        remove_template(template)


def read_last_use(template: Template) -> float:
    return os.stat(f"{template.path}/{DESCRIPTION}").st_mtime
