"""What a running container's server does for the other verbs.

Requests come over the control socket (shim/oci_cli/control.py) from processes of root.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from proto.contract import DRAIN_TIMEOUT_S
from shim.errors import InvalidArgument, SampanError
from shim.host.fds import OwnedFd
from shim.oci_cli.link import Link, own_connection
from shim.oci_cli.monitored import MonitoredProcess
from shim.oci_cli.streams import Descriptors, InheritedStreams
from shim.sandbox.container import Container
from shim.sandbox.containers import Containers

EXEC_FDS: Final = 4
StandBy = Callable[[MonitoredProcess, bool, int | None, bool], Awaitable[int]]
"""Of shim/oci_cli/session.py: monitor, foreground, console, terminal; the monitor's pid."""


class Commands:
    """Lifecycle: `perform` any time; `end_execs` when the container has ended."""

    def __init__(
        self,
        containers: Containers,
        container: Container,
        stand_by: StandBy,
        count_oom_kills: Callable[[], int],
    ) -> None:
        self._containers = containers
        self._container = container
        self._stand_by = stand_by
        self._count_oom_kills = count_oom_kills
        self._ids = itertools.count(1)
        self._execs: set[asyncio.Task[None]] = set()

    async def perform(self, operation: str, arguments: dict[str, Any], fds: list[OwnedFd]) -> Any:
        match operation:
            case "start":
                await self._container.start("")
            case "kill":
                await self._container.kill("", int(arguments["signal"]), bool(arguments["all"]))
            case "pause":
                await self._container.pause()
            case "resume":
                await self._container.resume()
            case "update":
                resources = json.dumps(arguments["resources"]).encode()
                await self._containers.update(self._container.id, resources)
            case "stats":
                figures = await self._container.read_stats()
                return {"figures": figures, "oom_kills": self._count_oom_kills()}
            case "exec":
                return await self._exec(arguments, fds)
            case _:
                raise InvalidArgument(f"{operation!r}: no such operation")
        return {}

    async def end_execs(self) -> None:
        """They have ended with the container: their monitors are told."""
        if self._execs:
            await asyncio.wait(self._execs, timeout=DRAIN_TIMEOUT_S)
        for task in self._execs:
            task.cancel()

    async def _exec(self, arguments: dict[str, Any], fds: list[OwnedFd]) -> dict[str, int]:
        """The monitor's pid, once the process runs.  Descriptors: the launcher's connection,
        then stdin, stdout, stderr, which are a console's if one is asked for."""
        if len(fds) != EXEC_FDS:
            raise InvalidArgument(f"exec: expected {EXEC_FDS} descriptors, are {len(fds)}")
        exec_id, terminal = f"exec-{next(self._ids)}", bool(arguments["terminal"])
        foreground = bool(arguments["foreground"])
        streams = InheritedStreams(terminal, Descriptors(*fds[1:]))
        console = fds[1].fileno() if arguments["console"] else None
        self._container.add_exec(exec_id, json.dumps(arguments["process"]).encode(), streams)
        link = Link(own_connection(fds[0].fileno()))
        monitored = MonitoredProcess(self._container, exec_id, link)
        try:
            pid = await self._stand_by(monitored, foreground, console, terminal)
            await self._container.start(exec_id)
        except BaseException:
            link.close()
            with suppress(SampanError):
                await self._container.delete_exec(exec_id)
            raise
        await monitored.began()
        task = asyncio.create_task(self._await_exec(exec_id, link))
        self._execs.add(task)
        task.add_done_callback(self._execs.discard)
        return {"pid": pid}

    async def _await_exec(self, exec_id: str, link: Link) -> None:
        """A monitor that was killed takes its process with it."""
        process = self._container.find_process(exec_id)
        ending = asyncio.create_task(process.wait_exit())
        waiting: set[asyncio.Future[Any]] = {ending, link.lost}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                with suppress(SampanError):
                    await self._container.kill(exec_id, 9, everyone=False)
            ended = await ending
            await link.end(ended.status)
            with suppress(SampanError):
                await self._container.delete_exec(exec_id)
        finally:
            ending.cancel()
            link.close()
