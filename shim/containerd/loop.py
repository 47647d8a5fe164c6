"""The shim's server on its event loop: builds and runs all that answers containerd.

Composition root: builds all parts, serves ttrpc until it is told to end, and takes
the parts down in reverse order.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from shim.config import Config
from shim.containerd.codes import describe_error
from shim.containerd.events import EventPublisher
from shim.containerd.logger import LoggerSpec, LoggingProgram, start_logger
from shim.containerd.publisher import Publisher
from shim.containerd.server_arguments import ServerArguments
from shim.containerd.task import TaskService
from shim.errors import SampanError
from shim.host.cgroup import HostCgroup
from shim.host.program import HostPrograms
from shim.host.reaper import Reaper
from shim.machine.launch import LaunchedMachine
from shim.machine.machine import SandboxMachine
from shim.machine.vmm_log import VmmLog
from shim.sandbox.beginning import ensure_template
from shim.sandbox.containers import Containers
from shim.ttrpc.server import Server

EVENTS_TIMEOUT_S: Final = 5.0
ANSWERS_TIMEOUT_S: Final = 1.0
FIRST_CALL_TIMEOUT_S: Final = 60.0
"""containerd connects as soon as `start` has printed the address."""
PREWARM_DELAY_S: Final = 1.0
"""After the agent has answered: the container starts first, prewarming must not delay it."""
log = logging.getLogger(__name__)


async def serve_tasks(
    arguments: ServerArguments,
    config: Config,
    launched: LaunchedMachine | SampanError,
    cgroup: HostCgroup | None,
    listener: socket.socket,
    vmm_log_fd: int,
) -> None:
    """Returns when the sandbox has ended.  Owns `vmm_log_fd`, which VmmLog reads."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    reaper = Reaper(loop)
    vmm_log = VmmLog(vmm_log_fd)
    machine = (
        launched if isinstance(launched, SampanError) else SandboxMachine(launched, reaper, cgroup)
    )
    publisher = Publisher(arguments.events_address, arguments.namespace)
    publisher.start()
    events = EventPublisher(publisher, machine.pid if isinstance(machine, SandboxMachine) else 0)
    containers = Containers(
        sandbox_id=arguments.sandbox_id,
        machine=machine,
        listener=events,
        run_program=HostPrograms(reaper, arguments.host_mounts, cgroup).run,
        shares_guest=config.host_namespaces == "guest",
    )
    server = make_server(arguments, containers, events, reaper, over.set)
    await server.start(listener)
    first_call = loop.call_later(FIRST_CALL_TIMEOUT_S, end_unless_called, server, over)
    background = start_background(arguments, config, containers, machine, cgroup)
    await over.wait()
    log.debug("sandbox %s is over", arguments.sandbox_id)
    first_call.cancel()
    for task in background:
        task.cancel()
    await server.close(ANSWERS_TIMEOUT_S)
    await containers.close()
    vmm_log.close()
    await publisher.close(EVENTS_TIMEOUT_S)
    reaper.close()


def start_background(
    arguments: ServerArguments,
    config: Config,
    containers: Containers,
    machine: SandboxMachine | SampanError,
    cgroup: HostCgroup | None,
) -> list[asyncio.Task[None]]:
    """What goes on beside the calls; the caller cancels it."""
    work = [containers.watch_oom_kills(), refill_pool(arguments, config, machine)]
    if isinstance(machine, SandboxMachine):
        work.append(
            ensure_template(
                config,
                machine,
                arguments.config_path,
                arguments.host_mounts,
                arguments.log_fd,
                cgroup,
            )
        )
    return [asyncio.create_task(each) for each in work]


def make_server(
    arguments: ServerArguments,
    containers: Containers,
    events: EventPublisher,
    reaper: Reaper,
    shut_down: Callable[[], None],
) -> Server:
    def start_program(container_id: str, spec: LoggerSpec) -> LoggingProgram:
        return start_logger(spec, container_id, arguments.namespace, reaper)

    service = TaskService(containers, events, start_program, shut_down)
    return Server(service.describe(), describe_error)


async def refill_pool(
    arguments: ServerArguments, config: Config, machine: SandboxMachine | SampanError
) -> None:
    """Has a machine prewarmed for the next container like this one."""
    wanted = config.prewarmed_machines and config.templates != "never"
    if not wanted or not arguments.request_machine or isinstance(machine, SampanError):
        return
    try:
        with suppress(SampanError):
            await machine.wait_agent()
        await asyncio.sleep(PREWARM_DELAY_S)
    finally:  # also when the sandbox has ended by then
        arguments.request_machine(config, arguments.config_path, machine.machine_class)


def end_unless_called(server: Server, over: asyncio.Event) -> None:
    """Nobody has connected: `start` was killed before it could print the address."""
    if not server.was_called:
        log.error("no client has connected within %g s: the server ends", FIRST_CALL_TIMEOUT_S)
        over.set()
