"""A machine and an agent in memory: what the Task service needs of a guest.

FakeAgent has AgentClient's methods and follows the agent's contract; a test
ends processes with `end`.  FakeMachine hands it out and can `die`.
"""

import asyncio
from collections.abc import AsyncIterator

from proto.control import Direction
from shim.errors import FailedPrecondition, GuestFault, NotFound, SampanError
from shim.guest.values import ProcessName, StdioTokens
from shim.machine.machine import MachineEnd, SandboxMachine
from shim.machine.network import SandboxNetwork
from shim.machine.streams import Stream

PID = 4242


class FakeAgent:
    def __init__(self) -> None:
        self.exits: dict[ProcessName, asyncio.Future[int]] = {}
        self.calls: list[tuple[object, ...]] = []
        self.start_error: SampanError | None = None
        self.create_error: SampanError | None = None
        self.delay_start = asyncio.Event()
        self.delay_start.set()
        self.delay_create = asyncio.Event()
        self.delay_create.set()
        self.stats: dict[str, dict[str, int]] = {}
        self.oom_kills: asyncio.Queue[str] = asyncio.Queue()
        self.obeys = True
        """Whether a process ends by a signal."""

    def end(self, name: ProcessName, status: int) -> None:
        self.exits[name].set_result(status)

    async def create_container(self, container_id: str, spec: bytes, stdio: StdioTokens) -> int:
        self.calls.append(("create", container_id, spec, stdio))
        await self.delay_create.wait()
        if self.create_error is not None:
            raise self.create_error
        self.exits[ProcessName(container_id)] = asyncio.get_running_loop().create_future()
        return 12

    async def add_exec(self, process: ProcessName, document: bytes, stdio: StdioTokens) -> None:
        self.calls.append(("add_exec", process, document, stdio))
        self.exits[process] = asyncio.get_running_loop().create_future()

    async def start_process(self, process: ProcessName) -> int:
        self.calls.append(("start", process))
        await self.delay_start.wait()
        if self.start_error is not None:
            raise self.start_error
        return 13

    async def wait_process(self, process: ProcessName) -> int:
        return await asyncio.shield(self.exits[process])

    async def signal_process(self, process: ProcessName, signal: int, everyone: bool) -> None:
        self.calls.append(("signal", process, signal, everyone))
        if process not in self.exits:
            raise NotFound(f"no process {process}")
        if signal != 9 or not self.obeys:
            return
        for other, exit_status in self.exits.items():
            dies_with_init = not process.exec_id and other.container_id == process.container_id
            if (other == process or dies_with_init) and not exit_status.done():
                self.end(other, 137)

    async def resize_terminal(self, process: ProcessName, columns: int, rows: int) -> None:
        self.calls.append(("resize", process, columns, rows))

    async def delete_process(self, process: ProcessName) -> None:
        self.calls.append(("delete", process))
        if process not in self.exits:
            raise NotFound(f"no process {process}")
        if not self.exits[process].done():
            raise FailedPrecondition("still running")

    async def pause_container(self, container_id: str) -> None:
        self.calls.append(("pause", container_id))

    async def resume_container(self, container_id: str) -> None:
        self.calls.append(("resume", container_id))

    async def update_container(self, container_id: str, resources: bytes) -> None:
        self.calls.append(("update", container_id, resources))

    async def get_stats(self, container_id: str) -> dict[str, dict[str, int]]:
        return self.stats

    async def watch_oom_kills(self) -> AsyncIterator[str]:
        while True:
            yield await self.oom_kills.get()


class FakeNetwork(SandboxNetwork):
    """A namespace in which there is nothing to join."""

    def __init__(self) -> None:
        self.joins = 0
        self.error: SampanError | None = None

    async def join(self) -> None:
        if self.error is not None:
            raise self.error
        self.joins += 1


class FakeMachine(SandboxMachine):
    """A SandboxMachine whose guest is a FakeAgent and whose vmm does not exist."""

    def __init__(self) -> None:
        self.pid = PID
        self.agent = FakeAgent()
        self.network = FakeNetwork()
        self.ended = asyncio.get_running_loop().create_future()
        self.shares = None  # type: ignore[assignment]
        self.cgroup = None
        self.streams: list[tuple[Direction, str, Stream]] = []
        self.stopped = False

    async def wait_booted(self) -> None:
        if self.ended.done():
            raise GuestFault(self.ended.result().reason)

    async def wait_agent(self) -> FakeAgent:  # type: ignore[override]
        if self.ended.done():
            raise GuestFault(self.ended.result().reason)
        return self.agent

    def open_stream(self, fd: int, direction: Direction, token: str) -> Stream:
        stream = Stream(asyncio.get_running_loop().create_future())
        self.streams.append((direction, token, stream))
        return stream

    def drain(self) -> None:
        """All output has reached its reader."""
        for _, _, stream in self.streams:
            if not stream.closed.done():
                stream.closed.set_result(0)

    def die(self, status: int, reason: str = "the microVM is gone") -> None:
        self.ended.set_result(MachineEnd(reason, status))
        self.drain()

    def give_up(self, reason: str) -> None:
        self.die(137, reason)

    async def stop(self) -> None:
        self.stopped = True
        if not self.ended.done():
            self.die(255)
