"""A sandbox's machine and bounds, before its server has an event loop, and their end.

What every front end does around shim/machine/machine.py.  Synchronous but for
`ensure_template`, and imports little: the machine starts while the server still imports.
"""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from shim.config import Config
from shim.errors import SampanError
from shim.host.cgroup import HostCgroup
from shim.machine.directory import SandboxDirectory
from shim.machine.launch import Launch, LaunchedMachine
from shim.machine.namespace import prepare_network
from shim.machine.request import LaunchRequest
from shim.sandbox.plan import MachinePlan

if TYPE_CHECKING:
    from shim.machine.machine import SandboxMachine

log = logging.getLogger(__name__)


def begin_machine(
    config: Config, sandbox: SandboxDirectory, plan: MachinePlan, vmm_stderr: int, launch: Launch
) -> LaunchedMachine:
    network = prepare_network(plan.network_path, config, plan.machine_class)
    request = LaunchRequest(config, sandbox, plan.machine_class, vmm_stderr, network, plan.template)
    return launch(request)


def leave_bounds(cgroup: HostCgroup | None) -> None:
    try:
        if cgroup is not None:
            cgroup.leave()
    except OSError as error:
        log.error("cgroup %s: %s", cgroup.path if cgroup else "", error.strerror)


async def ensure_template(
    config: Config,
    machine: "SandboxMachine",
    config_path: str,
    host_mounts: int,
    log_fd: int,
    cgroup: HostCgroup | None,
) -> None:
    """After a boot without a template, has one made for later containers."""
    if config.templates != "auto":
        return
    from shim.machine.templates.background import start_in_background  # noqa: PLC0415

    with suppress(SampanError):
        await machine.wait_agent()
        if not machine.is_clone:
            start_in_background(
                machine.machine_class, machine.template, config_path, host_mounts, log_fd, cgroup
            )
