"""One container: its spec, files, init process and execs.

Calls may overlap; the processes' states and their `starting` locks order those that
must not.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from proto.contract import DRAIN_TIMEOUT_S
from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    GuestFault,
    NotFound,
    SampanError,
    Unavailable,
)
from shim.guest.client import AgentClient
from shim.guest.values import ProcessName
from shim.host.mounts import HostMount
from shim.machine.files import ContainerFiles
from shim.machine.machine import SandboxMachine
from shim.oci.guest import (
    HostContext,
    translate_process,
    translate_resources,
)
from shim.oci.spec import parse_process, parse_resources
from shim.sandbox.events import (
    ContainerPaused,
    ContainerResumed,
    ExecAdded,
    Exit,
    Listener,
    OutOfMemory,
    ProcessExited,
    ProcessStarted,
)
from shim.sandbox.lifecycle import Action, State
from shim.sandbox.process import ContainerProcess
from shim.sandbox.rlimits import read_rlimits
from shim.sandbox.stdio import HostStreams, ProcessStdio

SIGKILL: Final = 9
KILL_TIMEOUT_S: Final = 60.0
"""From SIGKILL until a container has ended, on a slow host and with unread output."""
COMMAND_NOT_FOUND: Final = 127
COMMAND_FAILED: Final = 126
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """Everything that is decided before the host or the guest is touched."""

    container_id: str
    bundle: str
    spec: dict[str, Any]
    context: HostContext
    rootfs: tuple[HostMount, ...]
    stdio: ProcessStdio


class Container:
    """Made by `create_container`; ends with `delete`."""

    def __init__(
        self,
        plan: ContainerPlan,
        machine: SandboxMachine,
        agent: AgentClient,
        files: ContainerFiles,
        listener: Listener,
        *,
        on_stopped: Callable[["Container"], None],
    ) -> None:
        self.id = plan.container_id
        self.bundle = plan.bundle
        self.init = ContainerProcess(ProcessName(self.id), plan.stdio, machine)
        self.execs: dict[str, ContainerProcess] = {}
        self.guest_pid = 0
        self._exec_specs: dict[str, bytes] = {}
        self._machine = machine
        self._agent = agent
        self._files = files
        self._listener = listener
        self._on_stopped = on_stopped
        self._cleaning_up: asyncio.Task[None] | None = None

    def find_process(self, exec_id: str) -> ContainerProcess:
        if not exec_id:
            return self.init
        process = self.execs.get(exec_id)
        if process is None:
            raise NotFound(f"exec {exec_id!r} of container {self.id!r} does not exist")
        return process

    async def start(self, exec_id: str) -> None:
        process = self.find_process(exec_id)
        async with process.starting:
            if exec_id:
                self._check_takes_execs()
            process.change(Action.START)
            try:
                if exec_id:
                    await self._register_exec(process)
                else:
                    await self._machine.network.join()
                process.stdio.join_input(self._machine)
                await self._machine.until_end(self._agent.start_process(process.name))
            except SampanError as error:
                self._settle_failed_start(process, error)
                raise
            process.change(Action.CONFIRM)
            self._listener.handle(ProcessStarted(process.name))
            if exec_id:
                process.watch(self._agent, lambda status: self._finish_exec(process, status))

    def add_exec(self, exec_id: str, process_json: bytes, ends: HostStreams) -> None:
        """Only records it: the guest is told at its start."""
        if exec_id in self.execs:
            raise AlreadyExists(f"exec {exec_id!r} of container {self.id!r} exists already")
        self._check_takes_execs()
        described = parse_process(process_json)
        guest = translate_process(described, ends.terminal, read_rlimits())
        self._exec_specs[exec_id] = json.dumps(guest).encode()
        name, stdio = ProcessName(self.id, exec_id), ProcessStdio(ends)
        self.execs[exec_id] = ContainerProcess(name, stdio, self._machine)
        self._listener.handle(ExecAdded(name))

    async def kill(self, exec_id: str, signal: int, everyone: bool) -> None:
        process = self.find_process(exec_id)
        if process.state in (State.STOPPED, State.DELETED):
            raise NotFound(f"{process.subject}: process already finished")
        if not process.is_alive:
            raise FailedPrecondition(f"{process.subject} has not been started")
        if signal == 0:
            return
        if signal == SIGKILL and process is self.init:
            asyncio.get_running_loop().call_later(KILL_TIMEOUT_S, self._require_end)
        call = self._agent.signal_process(process.name, signal, everyone)
        try:
            await self._machine.until_end(call)
        except (Unavailable, GuestFault) as error:
            if process.is_alive:
                raise
            raise NotFound(f"{process.subject}: process already finished") from error

    async def resize(self, exec_id: str, columns: int, rows: int) -> None:
        process = self.find_process(exec_id)
        if not process.stdio.terminal:
            return
        call = self._agent.resize_terminal(process.name, columns, rows)
        await self._machine.until_end(call)

    async def pause(self) -> None:
        self.init.change(Action.PAUSE)
        try:
            await self._machine.until_end(self._agent.pause_container(self.id))
        except SampanError:
            self._resume_state()
            raise
        self._listener.handle(ContainerPaused(self.id))

    async def resume(self) -> None:
        if self.init.state is not State.PAUSED:
            raise FailedPrecondition(f"cannot resume {self.init.subject}: it is {self.init.state}")
        await self._machine.until_end(self._agent.resume_container(self.id))
        self._resume_state()
        self._listener.handle(ContainerResumed(self.id))

    async def update(self, resources_json: bytes) -> None:
        if not self.init.is_alive:
            raise FailedPrecondition(f"container {self.id!r} has stopped: nothing to update")
        resources = translate_resources(parse_resources(resources_json))
        call = self._agent.update_container(self.id, json.dumps(resources).encode())
        await self._machine.until_end(call)

    async def read_stats(self) -> dict[str, dict[str, int]]:
        if not self.init.is_alive:
            raise NotFound(f"{self.init.subject} has stopped: it has no cgroup")
        return await self._machine.until_end(self._agent.get_stats(self.id))

    async def delete_exec(self, exec_id: str) -> ContainerProcess:
        process = self.find_process(exec_id)
        registered = process.state is not State.CREATED
        process.change(Action.DELETE)
        if registered and self.init.is_alive:
            await self._forget(process)
        process.stdio.close()
        del self.execs[exec_id]
        self._exec_specs.pop(exec_id, None)
        return process

    async def delete(self, last: bool) -> Exit:
        """Ends an init process that was never started; refuses a running one."""
        if self.init.state is State.CREATED:
            await self.kill("", SIGKILL, everyone=False)
            await self.init.wait_exit()
        self.init.change(Action.DELETE)
        for process in self.execs.values():
            process.stdio.close()
        await self.clean_up(last)
        self.init.stdio.close()
        return await self.init.wait_exit()

    def abandon(self) -> None:
        """The machine is about to be stopped: reports the exit without waiting for it."""
        for process in (*self.execs.values(), self.init):
            process.stdio.close()

    async def clean_up(self, last: bool) -> None:
        """Frees what a stopped container has in the guest and on the host; idempotent.

        With the last container, stops the machine.
        """
        if self._cleaning_up is None:
            self._cleaning_up = asyncio.create_task(self._clean_up(last))
        await asyncio.shield(self._cleaning_up)

    def begin_watch(self) -> None:
        self.init.watch(self._agent, self._finish_init)

    async def _clean_up(self, last: bool) -> None:
        if last:
            await self._machine.stop()  # frees all that the guest has
        else:
            await self._forget(self.init)
        try:
            await asyncio.to_thread(self._files.unmount)
        except OSError as error:
            log.error("container %r: %s", self.id, error)

    async def _forget(self, process: ContainerProcess) -> None:
        try:
            await self._machine.until_end(self._agent.delete_process(process.name))
        except SampanError as error:
            level = logging.DEBUG if self._machine.ended.done() else logging.WARNING
            log.log(level, "%s: the agent could not delete it: %s", process.subject, error)

    def _require_end(self) -> None:
        """After SIGKILL: a guest that was taken over may ignore it."""
        if self.init.is_alive and not self._machine.ended.done():
            self._machine.give_up(
                f"container {self.id!r} did not end within {KILL_TIMEOUT_S:g} s of SIGKILL"
            )

    def _check_takes_execs(self) -> None:
        """In a paused container an exec, and its caller, would wait for the resume."""
        if not self.init.is_alive or self.init.state is State.PAUSED:
            word = "is paused" if self.init.is_alive else "has stopped"
            raise FailedPrecondition(f"container {self.id!r} {word}: no new exec in it")

    async def _register_exec(self, process: ContainerProcess) -> None:
        await process.stdio.open()
        tokens = process.stdio.join(self._machine)
        process_json = self._exec_specs.pop(process.name.exec_id)
        await self._machine.until_end(self._agent.add_exec(process.name, process_json, tokens))

    def _settle_failed_start(self, process: ContainerProcess, error: SampanError) -> None:
        """A process whose program could not be started has stopped."""
        status = COMMAND_NOT_FOUND if isinstance(error, NotFound) else COMMAND_FAILED
        if self._machine.ended.done():
            status = self._machine.ended.result().exit_status
        process.stdio.close()
        if process is self.init:
            self._stop_init(status, Action.FAIL)
            return
        process.finish(status, Action.FAIL)
        process.release()

    async def _finish_exec(self, process: ContainerProcess, status: int) -> None:
        process.finish(status)
        self._listener.handle(ProcessExited(process.name, process.known_exit))
        process.release()

    async def _finish_init(self, status: int) -> None:
        """Execs die with their init process; its exit is reported after theirs."""
        running = [process for process in self.execs.values() if process.is_alive]
        if running:
            waits = [asyncio.create_task(process.wait_exit()) for process in running]
            _, pending = await asyncio.wait(waits, timeout=DRAIN_TIMEOUT_S)
            for wait in pending:
                wait.cancel()
        if self.init.exit is None:
            self._stop_init(status, Action.EXIT)

    def _stop_init(self, status: int, action: Action) -> None:
        if self._machine.ended.done() and self._machine.ended.result().out_of_memory:
            self._listener.handle(OutOfMemory(self.id))
        self.init.finish(status, action)
        self._listener.handle(ProcessExited(self.init.name, self.init.known_exit))
        self.init.release()
        self._on_stopped(self)

    def _resume_state(self) -> None:
        if self.init.state is State.PAUSED:
            self.init.change(Action.RESUME)
