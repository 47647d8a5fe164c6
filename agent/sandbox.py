"""The containers of this guest, by id.

Runs in the event loop.  An id is in use from the start of its creation, and free
again when its deletion has ended.
"""

import asyncio
from typing import Any, Final

from agent.container import GuestContainer, SharedParts
from agent.errors import AgentError, AlreadyExists, NotFound
from agent.reaper import Exit
from agent.spec import check_id, parse_container, parse_exec
from agent.stdio import StdioRequest

END_TIMEOUT_S: Final = 5


class Sandbox:
    def __init__(self, parts: SharedParts) -> None:
        self._parts = parts
        self._containers: dict[str, GuestContainer] = {}

    @property
    def parts(self) -> SharedParts:
        return self._parts

    def find(self, container_id: str) -> GuestContainer:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NotFound(f"no container {container_id!r} in this guest") from None

    async def create(self, container_id: str, spec_json: bytes, request: StdioRequest) -> int:
        check_id(container_id, "container_id")
        if container_id in self._containers:
            raise AlreadyExists(f"container {container_id} exists")
        spec = parse_container(spec_json, container_id, request.terminal)
        container = GuestContainer(container_id, spec, request, self._parts)
        self._containers[container_id] = container
        try:
            return await container.create()
        except BaseException:
            del self._containers[container_id]
            raise

    def add_exec(
        self, container_id: str, exec_id: str, process_json: bytes, request: StdioRequest
    ) -> None:
        container = self.find(container_id)
        check_id(exec_id, "exec_id")
        container.add_exec(exec_id, parse_exec(process_json, request.terminal), request)

    async def start(self, container_id: str, exec_id: str) -> int:
        container = self.find(container_id)
        return await (container.start_exec(exec_id) if exec_id else container.start())

    async def delete(self, container_id: str, exec_id: str) -> Exit:
        container = self.find(container_id)
        if exec_id:
            return container.delete_exec(exec_id)
        end = await container.delete()
        del self._containers[container_id]
        return end

    async def end_all(self) -> None:
        """Kills the containers that still run; waits for their ends, for a bounded
        time."""
        ends: list[Any] = [
            asyncio.ensure_future(container.end()) for container in self._containers.values()
        ]
        if ends:
            _, pending = await asyncio.wait(ends, timeout=END_TIMEOUT_S)
            for task in pending:
                task.cancel()

    async def delete_all(self) -> None:
        """For an agent that ends without its guest: in tests."""
        for container_id in list(self._containers):
            try:
                await self.delete(container_id, "")
            except AgentError:
                continue
