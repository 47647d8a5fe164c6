"""A container's server on its event loop: the container, its monitor, its commands.

Composition root: builds all parts, and takes them down in reverse order when the
container has ended, for whatever reason.
"""

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from typing import Any, Final

from shim.errors import Unavailable
from shim.host.program import HostPrograms
from shim.host.reaper import Reaper
from shim.machine.machine import SandboxMachine
from shim.machine.vmm_log import VmmLog
from shim.oci_cli.call import write_pid_file
from shim.oci_cli.commands import Commands
from shim.oci_cli.control import ControlServer
from shim.oci_cli.link import Link, own_connection
from shim.oci_cli.monitored import MonitoredProcess
from shim.oci_cli.prepared import NewContainer, PreparedHost
from shim.oci_cli.record import ENDED_BY_US, STOPPED, remove_record
from shim.oci_cli.streams import InheritedStreams
from shim.sandbox.beginning import ensure_template
from shim.sandbox.container import Container
from shim.sandbox.containers import Containers
from shim.sandbox.events import (
    ContainerPaused,
    ContainerResumed,
    Event,
    OutOfMemory,
    ProcessStarted,
)

LAST_ANSWERS_S: Final = 1.0
log = logging.getLogger(__name__)


class Session:
    """Lifecycle: `run`, once."""

    def __init__(self, new: NewContainer, host: PreparedHost) -> None:
        self._new = new
        self._host = host
        self._record = new.record
        self._killed = asyncio.Event()
        """The server was told to end."""
        self.oom_kills = 0

    async def run(self) -> None:
        """Raises what has kept the container from being created, and started by `run`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._killed.set)
        link = Link(own_connection(self._new.call.connection.fileno()))
        try:
            async with AsyncExitStack() as undo:
                status = await self._live(link, undo)
            self._host.release()
            if not self._new.options.keep:
                remove_record(self._record)
            await link.end(status)
        finally:
            link.close()

    def handle(self, event: Event) -> None:
        """The core's Listener."""
        match event:
            case ProcessStarted(process) if not process.exec_id:
                self._record = self._record.with_status("running")
            case ContainerPaused():
                self._record = self._record.with_status("paused")
            case ContainerResumed():
                self._record = self._record.with_status("running")
            case OutOfMemory():
                self.oom_kills += 1

    async def _live(self, link: Link, undo: AsyncExitStack) -> int:
        """The exit status of the container's process."""
        host = self._host
        reaper = Reaper(asyncio.get_running_loop())
        undo.callback(reaper.close)
        undo.callback(VmmLog(host.vmm_log).close)
        machine = SandboxMachine(host.launched, reaper, host.cgroup)
        containers = Containers(
            sandbox_id=self._record.id,
            machine=machine,
            listener=self,
            run_program=HostPrograms(reaper, host.host_mounts, host.cgroup).run,
            shares_guest=host.config.host_namespaces == "guest",
        )
        undo.push_async_callback(containers.close)
        self._run_beside(containers, machine, undo)
        container = await self._create(containers, link)
        commands = Commands(containers, container, self._stand_by, lambda: self.oom_kills)
        server = ControlServer(host.listener, commands.perform)
        undo.push_async_callback(server.close, LAST_ANSWERS_S)
        monitored = MonitoredProcess(container, "", link)
        await self._settle(container, monitored)
        status = await self._wait_end(container, link)
        self._record = self._record.with_status(STOPPED, exit_status=status)
        await commands.end_execs()
        if not self._new.options.foreground:
            await link.end(status)
        return status

    def _run_beside(
        self, containers: Containers, machine: SandboxMachine, undo: AsyncExitStack
    ) -> None:
        ensuring = ensure_template(
            self._host.config, machine, "", self._host.host_mounts, 2, self._host.cgroup
        )
        for task in (
            asyncio.create_task(containers.watch_oom_kills()),
            asyncio.create_task(ensuring),
        ):
            undo.callback(task.cancel)

    async def _create(self, containers: Containers, link: Link) -> Container:
        """Given up when nobody waits for it any more."""
        streams = InheritedStreams(self._new.options.terminal, self._host.streams)
        record = self._record
        making = asyncio.create_task(containers.create(record.id, record.bundle, (), streams))
        await wait_first(making, link.lost, self._killed)
        if not making.done():
            making.cancel()
            raise Unavailable("the caller has ended")
        return await making

    async def _settle(self, container: Container, monitored: MonitoredProcess) -> None:
        """The monitor, the files that name it, the start if it is due, the caller's answer."""
        options = self._new.options
        pid = await self._stand_by(monitored, options.foreground, self._console, options.terminal)
        self._record = self._record.with_status("created", pid=pid)
        write_pid_file(options.pid_file, pid)
        if options.foreground:
            await monitored.link.wait_alone()
        await monitored.began()
        if options.starts:
            await container.start("")
        if not options.foreground:
            monitored.link.finish_launcher(0)
        if self._host.console is not None:
            self._host.console.close()
        self._new.errors.close()
        self._new.call.connection.close()

    @property
    def _console(self) -> int | None:
        return self._host.console.fileno() if self._host.console is not None else None

    async def _stand_by(
        self, monitored: MonitoredProcess, foreground: bool, console: int | None, terminal: bool
    ) -> int:
        """The pid of a process's monitor, which is in the container's namespace and cgroup
        where it is a process of its own."""
        network = self._host.launched.request.network
        pid = await monitored.link.stand_by(
            foreground,
            network=network.namespace if network and not foreground else None,
            terminal=console,
            raw_stdin=terminal and foreground,
        )
        if self._host.cgroup is not None and not foreground:
            try:
                self._host.cgroup.enter(pid)
            except OSError as error:
                log.warning("monitor %d: cgroup: %s", pid, error.strerror)
        return pid

    async def _wait_end(self, container: Container, link: Link) -> int:
        ending = asyncio.create_task(container.init.wait_exit())
        await wait_first(ending, link.lost, self._killed)
        if ending.done():
            return ending.result().status
        ending.cancel()
        log.info("container %r: its monitor was killed", container.id)
        return ENDED_BY_US


async def wait_first(
    task: "asyncio.Future[Any]", lost: "asyncio.Future[None]", killed: asyncio.Event
) -> None:
    waiter = asyncio.create_task(killed.wait())
    waiting: set[asyncio.Future[Any]] = {task, lost, waiter}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
