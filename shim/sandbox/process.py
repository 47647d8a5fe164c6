"""One process of a container as its callers see it: state, stdio, exit.

The init process and every exec are ContainerProcesses.  Each has one watcher, a
task that waits for its end in the guest, then for its output, then informs the
listener and last the callers that wait for the exit.  Invariant: the start is
reported before the exit, the exit only after the output has been handed over.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from proto.contract import DRAIN_TIMEOUT_S
from shim.errors import FailedPrecondition, GuestFault, NotFound, Unavailable
from shim.guest.client import AgentClient
from shim.guest.values import ProcessName
from shim.machine.machine import UNKNOWN_STATUS, SandboxMachine
from shim.sandbox.events import Exit
from shim.sandbox.lifecycle import Action, State, advance
from shim.sandbox.stdio import ProcessStdio

RECONNECT_TIMEOUT_S: Final = 2.0
"""After the agent's connection is lost: time to learn whether the machine has ended."""
MAX_FAULTS: Final = 5
"""After so many answers that do not tell a process's end, it is reported as unknown."""
log = logging.getLogger(__name__)


class ContainerProcess:
    """Lifecycle: `join`, `watch` and `start` in the caller's order; `wait_exit` any time."""

    def __init__(self, name: ProcessName, stdio: ProcessStdio, machine: SandboxMachine) -> None:
        self.name = name
        self.stdio = stdio
        self.state = State.CREATED
        self.exit: Exit | None = None
        self.starting = asyncio.Lock()
        """Locked during a start and its event, so that the exit comes after them."""
        self._machine = machine
        self._exited = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def subject(self) -> str:
        if self.name.exec_id:
            return f"exec {self.name.exec_id!r} of container {self.name.container_id!r}"
        return f"container {self.name.container_id!r}"

    @property
    def is_alive(self) -> bool:
        return self.state in (State.STARTING, State.RUNNING, State.PAUSED) or (
            self.state is State.CREATED and not self.name.exec_id
        )

    def change(self, action: Action) -> None:
        self.state = advance(self.state, action, self.subject)

    @property
    def known_exit(self) -> Exit:
        if self.exit is None:
            raise FailedPrecondition(f"{self.subject} has not ended")
        return self.exit

    async def wait_exit(self) -> Exit:
        await self._exited.wait()
        return self.known_exit

    def watch(self, agent: AgentClient, on_exit: Callable[[int], Awaitable[None]]) -> None:
        """Begins to wait for the end; `on_exit(status)` records it with `finish`."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch(agent, on_exit))

    def finish(self, status: int, action: Action = Action.EXIT) -> Exit:
        """Records the exit; `release` tells the waiting callers, after the listener."""
        self.change(action)
        self.stdio.close_stdin()
        self.exit = Exit(status, time.time_ns())
        return self.exit

    def release(self) -> None:
        self._exited.set()

    async def _watch(self, agent: AgentClient, on_exit: Callable[[int], Awaitable[None]]) -> None:
        status = await self._await_status(agent)
        if not await self.stdio.wait_drained(DRAIN_TIMEOUT_S):
            log.warning("%s: the rest of its output was not read in time", self.subject)
        async with self.starting:
            await on_exit(status)

    async def _await_status(self, agent: AgentClient) -> int:
        """Writes one line to the log, however often the agent's answer tells nothing."""
        told, faults = False, 0
        while faults < MAX_FAULTS:
            try:
                return await self._machine.until_end(agent.wait_process(self.name))
            except NotFound:
                log.error(
                    "%s: the agent has no such process; its exit status is unknown", self.subject
                )
                return UNKNOWN_STATUS
            except (Unavailable, GuestFault) as error:
                log.log(logging.DEBUG if told else logging.ERROR, "%s: %s", self.subject, error)
                told = True
                faults += isinstance(error, GuestFault)
            await asyncio.wait({self._machine.ended}, timeout=RECONNECT_TIMEOUT_S)
            if self._machine.ended.done():
                return self._machine.ended.result().exit_status
        return UNKNOWN_STATUS
