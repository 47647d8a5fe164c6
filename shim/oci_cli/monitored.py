"""A process of the container, and the monitor that stands for it on the host."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from shim.errors import SampanError
from shim.oci_cli.link import Link
from shim.sandbox.container import Container

log = logging.getLogger(__name__)


class MonitoredProcess:
    """Passes on what the monitor tells: signals, and the size of its terminal."""

    def __init__(self, container: Container, exec_id: str, link: Link) -> None:
        self.link = link
        self._container = container
        self._exec_id = exec_id
        self._began = False
        self._size = (0, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        link.on_signal = self._pass_signal
        link.on_resize = self._note_size

    async def began(self) -> None:
        """The guest knows the process: its terminal may be told the size."""
        self._began = True
        if self._size != (0, 0):
            await self._resize(*self._size)

    def _pass_signal(self, number: int) -> None:
        self._run(self._kill(number))

    def _note_size(self, columns: int, rows: int) -> None:
        self._size = (columns, rows)
        if self._began:
            self._run(self._resize(columns, rows))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kill(self, number: int) -> None:
        try:
            await self._container.kill(self._exec_id, number, everyone=False)
        except SampanError as error:
            log.debug("signal %d for %s: %s", number, self._exec_id or "init", error)

    async def _resize(self, columns: int, rows: int) -> None:
        try:
            await self._container.resize(self._exec_id, columns, rows)
        except SampanError as error:
            log.debug("size of %s's terminal: %s", self._exec_id or "init", error)
