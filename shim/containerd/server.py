"""The shim's server process, from its first instruction to its last.

Starts the machine; while it boots, imports and runs everything else
(shim/containerd/loop.py).  Runs in the process that `start` forked: no thread, no
event loop and no gRPC before `run_server`.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import socket

from shim.config import Config, load_config
from shim.containerd.server_arguments import ServerArguments
from shim.errors import SampanError
from shim.host.capabilities import keep_few_capabilities
from shim.host.cgroup import HostCgroup
from shim.log import log_to
from shim.machine.bounds import enter_bounds
from shim.machine.launch import LaunchedMachine
from shim.machine.vmm_log import open_log_pipe
from shim.sandbox.beginning import begin_machine, leave_bounds
from shim.sandbox.plan import plan_machine

log = logging.getLogger(__name__)


def run_server(arguments: ServerArguments, listener: socket.socket) -> None:
    """Returns when the sandbox has ended and nothing of it is left."""
    faulthandler.register(signal.SIGUSR1)
    config = Config()
    cgroup: HostCgroup | None = None
    launched: LaunchedMachine | SampanError
    vmm_log, vmm_stderr = open_log_pipe()
    try:
        config = load_config(arguments.config_path or None)
        log_to(arguments.log_fd, "debug" if arguments.debug else config.log_level)
        plan = plan_machine(arguments.bundle, config, arguments.namespace)
        cgroup = enter_bounds(plan.bounds, arguments.sandbox)
        launched = begin_machine(config, arguments.sandbox, plan, vmm_stderr, arguments.launch)
        if cgroup is not None:
            cgroup.enter(launched.pid)  # a prewarmed one is in another cgroup
    except SampanError as error:
        log_to(arguments.log_fd, "info")
        log.error("no machine for sandbox %s: %s", arguments.sandbox_id, error)
        launched = error
    os.close(vmm_stderr)  # the vmm has its own copy
    keep_few_capabilities()
    try:
        # protobuf and what uses it: imported while the guest boots.
        from shim.containerd.loop import serve_tasks  # noqa: PLC0415

        asyncio.run(serve_tasks(arguments, config, launched, cgroup, listener, vmm_log))
    finally:
        leave_bounds(cgroup)
        arguments.sandbox.remove()
