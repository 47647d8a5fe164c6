"""Runs a server while it has users, and for a moment longer.

Runs in the event loop.  One start or stop at a time: a user that comes during a stop
waits for it, and then for a new start.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from agent.console import say

LINGER_S: Final = 1.0
"""From the last user's leave: for the next one that comes soon, and so that a template is
saved with a server that runs."""


class Server(Protocol):
    """As RpcServer of agent/rpc.py."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class OnDemand:
    """enter() and leave() for each user; close() when none can come any more."""

    def __init__(
        self, server: Server, before_stop: Callable[[], None], linger_s: float = LINGER_S
    ) -> None:
        """`before_stop`: called when the server is about to stop."""
        self._server = server
        self._before_stop = before_stop
        self._linger_s = linger_s
        self._users = 0
        self._change = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None
        self.is_running = False
        """A user that enters now need not wait."""

    def enter(self) -> None:
        """Before start(), if there is no server: so that none that runs is stopped."""
        self._users += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._linger_s, self._begin_stop)

    async def start(self) -> None:
        """Without any user, too: it then runs until one has come and gone."""
        async with self._change:
            if not self.is_running:
                await self._server.start()
                self.is_running = True

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        async with self._change:
            await self._stop()

    def _begin_stop(self) -> None:
        self._timer = None
        self._stopping = asyncio.create_task(self._stop_unused())

    async def _stop_unused(self) -> None:
        async with self._change:
            if self._users:  # one that came in the meantime
                return
            try:
                await self._stop()
            except Exception as error:
                say(f"the server did not stop: {error!r}")

    async def _stop(self) -> None:
        if self.is_running:
            self.is_running = False
            self._before_stop()
            await self._server.stop()
