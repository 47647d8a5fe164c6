"""The shim's server process, from its first instruction to its last.

Composition root of the service: begins the machine, then imports and builds
everything else beside it, serves ttrpc until it is told to go, and takes down
in reverse what it has put up.  Runs in the process that `start` forked: no
thread, no event loop and no gRPC before `run_server`.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shim.config import Config, load_config
from shim.errors import SampanError
from shim.host.reaper import Reaper
from shim.log import log_to
from shim.machine.directory import SandboxDirectory
from shim.machine.launch import LaunchedMachine, PreparedNetwork, prepare_network
from shim.machine.templates.identity import MachineClass
from shim.machine.vmm_log import VmmLog, open_log_pipe
from shim.sandbox.plan import plan_machine

if TYPE_CHECKING:
    from shim.machine.machine import Machine
    from shim.ttrpc.server import Server

EVENTS_PATIENCE_S: Final = 5.0
LAST_ANSWERS_S: Final = 1.0
FIRST_CALL_PATIENCE_S: Final = 60.0
"""containerd connects as soon as `start` has printed the address."""
SETTLED_S: Final = 1.0
"""After its agent's answer a container runs, and may have the host's processors."""
Launch = Callable[
    [Config, SandboxDirectory, MachineClass, int, PreparedNetwork | None, str], LaunchedMachine
]
"""launch_machine's arguments, in their order."""
Wish = Callable[[Config, str, MachineClass], None]
"""For a machine of this class to be ready for the next sandbox; with its config's path."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerArguments:
    namespace: str
    sandbox_id: str
    sandbox: SandboxDirectory
    bundle: str
    events_address: str
    config_path: str
    debug: bool
    log_fd: int
    host_mounts: int
    """The mount namespace that this process was in at first, as a descriptor."""
    launch: Launch
    wish: Wish | None = None


def run_server(arguments: ServerArguments, listener: socket.socket) -> None:
    """Returns when the sandbox is over and nothing of it is left."""
    faulthandler.register(signal.SIGUSR1)
    config = Config()
    launched: LaunchedMachine | SampanError
    vmm_log, vmm_stderr = open_log_pipe()
    try:
        config = load_config(arguments.config_path or None)
        log_to(arguments.log_fd, "debug" if arguments.debug else config.log_level)
        launched = begin_machine(arguments, config, vmm_stderr)
    except SampanError as error:
        log_to(arguments.log_fd, "info")
        log.error("no machine for sandbox %s: %s", arguments.sandbox_id, error)
        launched = error
    os.close(vmm_stderr)  # the vmm has its own
    try:
        asyncio.run(serve_tasks(arguments, config, launched, listener, vmm_log))
    finally:
        arguments.sandbox.remove()


def begin_machine(arguments: ServerArguments, config: Config, vmm_stderr: int) -> LaunchedMachine:
    plan = plan_machine(arguments.bundle, config)
    network = prepare_network(plan.network_path, config, plan.machine_class)
    return arguments.launch(
        config, arguments.sandbox, plan.machine_class, vmm_stderr, network, plan.template
    )


async def serve_tasks(
    arguments: ServerArguments,
    config: Config,
    launched: LaunchedMachine | SampanError,
    listener: socket.socket,
    vmm_log_fd: int,
) -> None:
    # protobuf and all that stands on it: imported while the guest boots.
    from shim.containerd.announce import Announcer  # noqa: PLC0415
    from shim.containerd.codes import describe_error  # noqa: PLC0415
    from shim.containerd.publisher import Publisher  # noqa: PLC0415
    from shim.containerd.task import TaskService  # noqa: PLC0415
    from shim.machine.machine import Machine  # noqa: PLC0415
    from shim.sandbox.containers import Containers  # noqa: PLC0415
    from shim.ttrpc.server import Server  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    reaper = Reaper(loop)
    vmm_log = VmmLog(vmm_log_fd)
    machine: Machine | SampanError
    if isinstance(launched, SampanError):
        machine = launched
    else:
        machine = Machine(launched, reaper, arguments.sandbox, config)
    publisher = Publisher(arguments.events_address, arguments.namespace)
    publisher.start()
    pid = machine.pid if isinstance(machine, Machine) else 0
    containers = Containers(
        namespace=arguments.namespace,
        sandbox_id=arguments.sandbox_id,
        machine=machine,
        announcer=Announcer(publisher, pid),
        reaper=reaper,
        shares_guest=config.host_namespaces == "guest",
    )
    server = Server(TaskService(containers, over.set).describe(), describe_error)
    await server.start(listener)
    first_call = loop.call_later(FIRST_CALL_PATIENCE_S, end_unless_called, server, over)
    oom_watch = asyncio.create_task(containers.watch_oom_kills())
    offer = asyncio.create_task(offer_template(arguments, config, machine))
    refill = asyncio.create_task(refill_pool(arguments, config, machine))
    await over.wait()
    log.debug("sandbox %s is over", arguments.sandbox_id)
    first_call.cancel()
    oom_watch.cancel()
    offer.cancel()
    refill.cancel()
    await server.close(LAST_ANSWERS_S)
    await containers.close()
    vmm_log.close()
    await publisher.close(EVENTS_PATIENCE_S)
    reaper.close()


async def offer_template(
    arguments: ServerArguments, config: Config, machine: "Machine | SampanError"
) -> None:
    """A container that had to boot has a template made for those that follow."""
    if config.templates != "auto" or isinstance(machine, SampanError):
        return
    from shim.machine.templates.offer import start_offer  # noqa: PLC0415

    with suppress(SampanError):
        await machine.wait_agent()
        if not machine.is_clone:
            start_offer(
                machine.machine_class,
                machine.template,
                arguments.config_path,
                arguments.host_mounts,
                arguments.log_fd,
            )


async def refill_pool(
    arguments: ServerArguments, config: Config, machine: "Machine | SampanError"
) -> None:
    """The next container like this one finds a machine that is ready to run."""
    wanted = config.ready_machines and config.templates != "never"
    if not wanted or not arguments.wish or isinstance(machine, SampanError):
        return
    try:
        with suppress(SampanError):
            await machine.wait_agent()
        await asyncio.sleep(SETTLED_S)
    finally:  # also for one that is over by then
        arguments.wish(config, arguments.config_path, machine.machine_class)


def end_unless_called(server: "Server", over: asyncio.Event) -> None:
    """`start` was killed before it could print the address: nobody knows of us."""
    if not server.was_called:
        log.error("nobody has connected within %g s", FIRST_CALL_PATIENCE_S)
        over.set()
