"""A server's connection to the launcher that a person or conmon has called.

native/launcher/oci.h has the messages.  One for the container and one for each exec;
its other end is the monitor process that stands for it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from shim.errors import Unavailable
from shim.host.peer import read_peer_pid

MAX_MESSAGE_BYTES: Final = 64
READ_TIMEOUT_S: Final = 30.0
"""For a launcher to fork, or to be alone on the connection after its end."""
log = logging.getLogger(__name__)


def finish(connection: socket.socket, status: int) -> None:
    """Without an event loop.  A launcher that has ended needs no answer."""
    try:
        connection.send(bytes([status]))
    except OSError as error:
        log.debug("the launcher has ended: %s", error)


class Link:
    """Lifecycle: set `on_signal` and `on_resize`; `stand_by`; `finish_launcher` if that makes
    a monitor; `end` with the process's status, or `close`, which kills the monitor.  Owns
    the connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.pid = 0
        self.on_signal: Callable[[int], None] = lambda _: None
        self.on_resize: Callable[[int, int], None] = lambda _columns, _rows: None
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Resolves when the monitor has ended, or was killed."""
        self._forked: asyncio.Future[int] = self._loop.create_future()
        self._alone = asyncio.Event()
        self._loop.add_reader(connection, self._receive)

    async def stand_by(
        self,
        foreground: bool,
        network: int | None = None,
        terminal: int | None = None,
        raw_stdin: bool = False,
    ) -> int:
        """The monitor's pid.  `network`: a namespace for it; `terminal`: whose size it
        watches; `raw_stdin`: that is the launcher's own."""
        flags = "n" * (network is not None) + "t" * (terminal is not None or raw_stdin)
        fds = [number for number in (network, terminal) if number is not None]
        text = f"{'F' if foreground else 'M'}.{flags}".encode()
        try:
            socket.send_fds(self._connection, [text], fds)
        except OSError as error:
            raise Unavailable("the caller has ended") from error
        if foreground:
            self.pid = read_peer_pid(self._connection)
            return self.pid
        waiting: set[asyncio.Future[Any]] = {self._forked, self.lost}
        await asyncio.wait(waiting, timeout=READ_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not self._forked.done():
            raise Unavailable("the caller has ended, or makes no monitor process")
        self.pid = self._forked.result()
        return self.pid

    def finish_launcher(self, status: int) -> None:
        finish(self._connection, status)

    async def wait_alone(self) -> None:
        """The monitor serves, and has told the size of its terminal; or is lost."""
        alone = asyncio.ensure_future(self._alone.wait())
        waiting: set[asyncio.Future[Any]] = {alone, self.lost}
        await asyncio.wait(waiting, timeout=READ_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        alone.cancel()

    async def end(self, status: int) -> None:
        """The monitor ends with it; idempotent."""
        if self._connection.fileno() < 0:
            return
        await self.wait_alone()
        if self._alone.is_set():
            finish(self._connection, status)
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection)
            self._connection.close()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._connection)
            if not self.lost.done():
                self.lost.set_result(None)
            return
        try:
            self._take(data[:1], data[1:].decode())
        except ValueError as error:
            log.error("the monitor, process %d: %r: %s", self.pid, data, error)

    def _take(self, kind: bytes, text: str) -> None:
        if kind == b"p" and not self._forked.done():
            self._forked.set_result(int(text))
        elif kind == b"g":
            self._alone.set()
        elif kind == b"s":
            self.on_signal(int(text))
        elif kind == b"w":
            columns, rows = text.split()
            self.on_resize(int(columns), int(rows))


def own_connection(number: int) -> socket.socket:
    """A copy, so that the other owner may close its own."""
    return socket.socket(fileno=os.dup(number))
