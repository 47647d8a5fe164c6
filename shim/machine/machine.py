"""A sandbox's machine as the rest of the shim sees it.

Owns the vmm process (through the control socket and its pid) and the client
of the guest's agent.  It ends once, for whatever reason, and then
`ended` resolves; everything that waits for the guest also waits for that.
"""

import asyncio
import errno
import json
import logging
import os
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proto.contract import (
    ENTROPY_BYTES,
    MEMORY_FILE,
    PROTOCOL_VERSION,
    STATE_FILE,
    WORKING_SET_FILE,
)
from proto.control import Direction, NicArgs, Operation, StoppedEvent, StreamClosedEvent
from shim.errors import GuestFault, HostResource, SampanError
from shim.guest.clock import keep_clock
from shim.host.cgroup import HostCgroup
from shim.host.fds import close_all
from shim.host.reaper import Reaper
from shim.machine.boot import expect_boot, read_hostname
from shim.machine.bounds import begin_quota, describe_oom_kill
from shim.machine.console import read_console_tail
from shim.machine.control import ControlSocket
from shim.machine.launch import LaunchedMachine
from shim.machine.messages import ProtocolFault
from shim.machine.network import SandboxNetwork
from shim.machine.streams import GuestStreams, Stream

if TYPE_CHECKING:
    from shim.guest.client import AgentClient

SIGKILL_STATUS: Final = 137
UNKNOWN_STATUS: Final = 255
STOP_TIMEOUT_S: Final = 3.0
"""For the vmm to end: after the request to stop, and again after its socket has closed."""
STOPPED_GRACE_S: Final = 1.0
"""For the output that is in flight when a guest stops: its vmm stays that long, or until
all streams have been closed."""

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MachineEnd:
    """Why a machine has ended, and the exit status of its processes then."""

    reason: str
    exit_status: int
    out_of_memory: bool = False
    """At the limit of its cgroup on the host."""


class SandboxMachine:
    """Lifecycle: `wait_agent`, any use of agent and streams, `stop`."""

    def __init__(
        self, launched: LaunchedMachine, reaper: Reaper, cgroup: HostCgroup | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.pid = launched.pid
        self.machine_class = launched.request.machine_class
        self.template = launched.request.template
        self.shares = launched.shares
        self.cgroup = cgroup
        """Of the host; the shim's server owns it."""
        self.is_clone = False
        """Of a template: known once the agent answers."""
        self.ended: asyncio.Future[MachineEnd] = self._loop.create_future()
        self._sandbox = launched.request.sandbox
        self._config = launched.request.config
        self._saves = launched.request.saves
        """Then its agent's server is to run at that moment."""
        self._stop_requested = False
        self._stopped_because = ""
        self._fault = ""
        """Why we killed the vmm: this is reported before any reason of the vmm's own."""
        self._agent: AgentClient | None = None
        self._keepers: list[asyncio.Task[None]] = []
        """Tasks that run beside the containers, until the agent is closed."""
        self.network = SandboxNetwork(self, self._sandbox, launched.request.network)
        self._control = ControlSocket(launched.control, self._handle_event, self._handle_closed)
        self._streams = GuestStreams(self._control)
        self._booted = expect_boot(self._control)
        self._adopted = asyncio.create_task(self._adopt_shares())
        self._adopted.add_done_callback(_retrieve_result)
        self._process = reaper.watch(launched.pid)
        self._process.add_done_callback(self._handle_exit)
        self._ready = asyncio.create_task(self._connect())
        self._ready.add_done_callback(_retrieve_result)

    async def wait_agent(self) -> "AgentClient":
        """The agent once it answers; GuestFault with the console's tail if it never does."""
        return await self.until_end(asyncio.shield(self._ready))

    async def until_end(
        self, work: "asyncio.Future[Result] | Coroutine[Any, Any, Result]"
    ) -> Result:
        """The result of a call to the guest; GuestFault when the machine has ended."""
        task = asyncio.ensure_future(work)
        waiting: set[asyncio.Future[Any]] = {task, self.ended}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if self.ended.done() and (not task.done() or task.exception() is not None):
            task.cancel()
            task.add_done_callback(_retrieve_result)
            raise GuestFault(self.ended.result().reason)
        return await task

    def open_stream(self, fd: int, direction: Direction, token: str) -> Stream:
        """As of GuestStreams."""
        return self._streams.open(fd, direction, token)

    async def attach_nic(self, nic: int, mac: str, fds: list[int]) -> None:
        """A tap's queues, and as many of vhost-net or none.  They stay the caller's; the
        vmm gets descriptors of its own."""
        arguments = NicArgs(nic, mac)._asdict()
        await self._control.send(Operation.ATTACH_NIC, arguments, fds)

    async def read_counters(self) -> dict[str, Any]:
        counters: dict[str, Any] = await self._control.request(Operation.COUNTERS, {})
        return counters

    async def wait_booted(self) -> None:
        """Until the vmm has its root: it sees what is mounted in the shares from then on."""
        await self.until_end(asyncio.shield(self._adopted))

    async def save(self, directory: str) -> None:
        """Writes a snapshot for clones into an empty directory; only `stop` may follow."""
        await self.wait_agent()
        await self._disconnect_agent()
        await self._ask_to_write(Operation.SAVE, directory, (MEMORY_FILE, STATE_FILE))

    async def save_working_set(self, directory: str) -> None:
        """Writes the working set into `directory`, that of this machine's template."""
        await self._ask_to_write(Operation.SAVE_WORKING_SET, directory, (WORKING_SET_FILE,))

    async def _ask_to_write(
        self, operation: Operation, directory: str, names: tuple[str, ...]
    ) -> None:
        fds: list[int] = []
        try:
            for name in names:
                fds.append(os.open(f"{directory}/{name}", NEW_FILE, 0o600))
            await self._control.send(operation, {}, fds)
        finally:
            close_all(fds)

    def give_up(self, reason: str) -> None:
        """Ends everything at once, for a guest or a vmm that breaks its contract."""
        self._fault = self._fault or reason
        self._control.close()
        self._kill_vmm()

    async def stop(self) -> None:
        """Ends the vmm and reaps it; idempotent.  The guest is not asked."""
        self._stop_requested = True
        self._ready.cancel()
        self._adopted.cancel()
        await self._disconnect_agent()
        try:
            await self._end_vmm()
        finally:
            await self.network.close()
            self.shares.close()

    async def _adopt_shares(self) -> None:
        timeout_s = self._config.agent_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._await_boot()
        except TimeoutError as error:
            vmm = f"the vmm, process {self.pid}"
            raise GuestFault(f"{vmm}, did not boot the machine within {timeout_s:g} s") from error
        try:
            self.shares.adopt(self.pid)
        except HostResource:
            # Perhaps it has ended since its answer: until_end then tells why it ended.
            await asyncio.wait({self.ended}, timeout=STOP_TIMEOUT_S)
            raise

    async def _disconnect_agent(self) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        if self._agent is not None:
            await self._agent.close()

    async def _end_vmm(self) -> None:
        for step in (self._request_stop, self._close_control, self._kill):
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await step()
                    await asyncio.shield(self._process)
                return
            except TimeoutError:
                continue
        log.error("the vmm, process %d, did not end after SIGKILL", self.pid)

    async def _request_stop(self) -> None:
        try:
            await self._control.request(Operation.STOP, {})
        except SampanError as error:
            log.debug("the vmm was asked to stop: %s", error)
            self._control.close()

    async def _close_control(self) -> None:
        self._control.close()

    async def _kill(self) -> None:
        self._kill_vmm()

    async def _connect(self) -> "AgentClient":
        try:
            async with asyncio.timeout(self._config.agent_timeout_s):
                # gRPC takes long to import; the guest boots meanwhile.
                connect = await asyncio.to_thread(_import_client)
                # The vmm's socket listens already: the connection is set up meanwhile.
                paths = (self._sandbox.agent_socket, self._sandbox.events_socket)
                self._agent = connect(*paths, stays_open=self._saves)
                booted = await self._await_boot()
                self.is_clone = bool(booted.get("cloned"))
                await self._check_agent(self._agent)
        except TimeoutError as error:
            raise GuestFault(
                f"the guest's agent did not answer within {self._config.agent_timeout_s:g} s"
                f"{self._quote_console()}"
            ) from error
        begin_quota(self.cgroup)
        timings_us = booted.get("timings_us", {})
        self._keepers = [
            asyncio.create_task(self._save_counters(timings_us)),
            asyncio.create_task(keep_clock(self._agent)),
        ]
        return self._agent

    async def _check_agent(self, agent: "AgentClient") -> None:
        """Until the agent answers.  A template's agent has our version: its class includes it."""
        if self.is_clone:
            await agent.renew_identity(os.urandom(ENTROPY_BYTES), read_hostname())
            return
        info = await agent.wait_info()
        if info.protocol_version != PROTOCOL_VERSION:
            raise GuestFault(
                f"{self._config.image_dir}: the guest image speaks version "
                f"{info.protocol_version} of our protocol, this shim {PROTOCOL_VERSION}; rebuild "
                "it with `sampan image build`"
            )

    async def _await_boot(self) -> dict[str, Any]:
        """BootResult's fields."""
        try:
            # Shielded: a waiter that is cancelled must not cancel it for the others.
            return dict(await asyncio.shield(self._booted))
        except GuestFault as error:
            if not self._control.closed.is_set():
                raise
            # The end of its process tells more than the end of its socket.
            end = await asyncio.shield(self.ended)
            raise GuestFault(end.reason) from error

    async def _save_counters(self, timings_us: dict[str, int]) -> None:
        """What a boot has cost, for `sampan counters`; the vmm's steps in microseconds."""
        try:
            counters = await self.read_counters()
            write_json(self._sandbox.counters, {**counters, "timings_us": timings_us})
        except (SampanError, OSError) as error:
            log.warning("the vmm's counters: %s", error)

    def _handle_event(self, event: StoppedEvent | StreamClosedEvent) -> None:
        if isinstance(event, StreamClosedEvent):
            if not self._streams.close(event.stream, event.error):
                raise ProtocolFault(f"the end of stream {event.stream}, which is not open")
            if self._stopped_because and not len(self._streams):
                self._loop.call_soon(self._control.close)
            return
        if self._stopped_because:
            raise ProtocolFault("the machine's end for a second time")
        self._stopped_because = f"{event.reason}{f' ({event.detail})' if event.detail else ''}"
        grace_s = STOPPED_GRACE_S if len(self._streams) else 0
        self._loop.call_later(grace_s, self._control.close)

    def _handle_closed(self, fault: str) -> None:
        """A vmm that was not taken over ends by itself now; one that was is killed."""
        if fault:
            vmm = f"its vmm, process {self.pid}"
            self.give_up(f"{vmm}, broke the protocol of its control socket: {fault}")
        elif not self._process.done():
            killing = self._loop.call_later(STOP_TIMEOUT_S, self._kill_vmm)
            self._process.add_done_callback(lambda _: killing.cancel())

    def _kill_vmm(self) -> None:
        if not self._process.done():
            # Not reaped yet, so the pid is still its own.
            os.kill(self.pid, signal.SIGKILL)

    def _handle_exit(self, process: "asyncio.Future[int]") -> None:
        end = self._describe_end(process.result())
        (log.info if self._stop_requested else log.error)("%s", end.reason)
        self._control.close()
        self.ended.set_result(end)
        self._streams.close_all(errno.EPIPE)

    def _describe_end(self, code: int) -> MachineEnd:
        status = SIGKILL_STATUS if code == -signal.SIGKILL else UNKNOWN_STATUS
        how = f"signal {-code}" if code < 0 else f"status {code}"
        if self._stop_requested:
            return MachineEnd(f"the microVM was stopped; its vmm ended with {how}", status)
        if self._fault:  # first: the cgroup may also count OOM kills of other processes
            what = f"the microVM was killed: {self._fault}"
        elif status == SIGKILL_STATUS and (limit := describe_oom_kill(self.cgroup)):
            what = f"the host's kernel killed the vmm for lack of memory: {limit}"
            return MachineEnd(what, status, out_of_memory=True)
        elif self._booted.done() and self._booted.exception() is None and self._stopped_because:
            what = f"the microVM stopped: {self._stopped_because}"
        else:
            what = f"the microVM's vmm, process {self.pid}, ended with {how}"
        return MachineEnd(what + self._quote_console(), status)

    def _quote_console(self) -> str:
        tail = read_console_tail(self._sandbox.console)
        return f"; the guest's last words: {tail}" if tail else ""


def write_json(path: str, value: Any) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


def _import_client() -> "type[AgentClient]":
    from shim.guest.client import AgentClient  # noqa: PLC0415 (see SandboxMachine._connect)

    return AgentClient


def _retrieve_result(task: "asyncio.Future[Any]") -> None:
    """Marks an error as seen; later waiters still get it."""
    if not task.cancelled():
        task.exception()
