"""Joins vsock connections to the gRPC server's unix socket.

grpcio's wheel is built without vsock addresses.  The listening socket may be older
than the server: connections made meanwhile wait in its backlog, so the host needs
to connect only once.  The server runs while there are connections; a connection
without one has it started.  To the first one, a connection is opened in advance, so
that the server has already accepted it when the next client connects: in a template,
before its clones exist.  Runs in the event loop.
"""

import asyncio
import socket
from functools import partial

from agent.console import say
from agent.listener import accept_nowait
from agent.on_demand import LINGER_S, OnDemand, Server
from agent.pump import Pump


class RelayedConnection:
    """Two connections and the pumps in both directions; owns all of them until both have
    ended."""

    def __init__(self, outside: socket.socket, inside: socket.socket, relay: "Relay") -> None:
        self._sockets = (outside, inside)
        self._relay = relay
        self._running = 2
        self._pumps = (
            Pump(outside.fileno(), inside.fileno(), lambda: self._end(inside)),
            Pump(inside.fileno(), outside.fileno(), lambda: self._end(outside)),
        )
        for pump in self._pumps:
            pump.start()

    def _end(self, sink: socket.socket) -> None:
        self._running -= 1
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()  # the other side has closed both directions
            return
        if self._running == 0:
            self.close()

    def close(self) -> None:
        for pump in self._pumps:
            pump.stop()
        for end in self._sockets:
            end.close()
        self._relay.forget(self)


class Relay:
    """open() in the running loop; close() ends every connection, and then the server."""

    def __init__(
        self, listener: socket.socket, server: Server, target: str, linger_s: float = LINGER_S
    ) -> None:
        """`target`: the unix socket at which the server listens once it is started."""
        self._listener = listener
        self._target = target
        self._demand = OnDemand(server, self._end_advance, linger_s)
        self._connections: set[RelayedConnection] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._in_advance = True
        self._spare: socket.socket | None = None

    async def open(self) -> None:
        """With the server, which runs until a client has come and gone."""
        await self._demand.start()
        self._listener.setblocking(False)
        self._spare = self._connect()
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for starting in self._starting:
            starting.cancel()
        for connection in list(self._connections):
            connection.close()
        await self._demand.close()

    def forget(self, connection: RelayedConnection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._demand.leave()

    def _accept(self) -> None:
        outside = accept_nowait(self._listener)
        if outside is None:
            return
        self._demand.enter()
        if self._demand.is_running:
            self._join(outside)
            return
        starting = asyncio.create_task(self._demand.start())
        self._starting.add(starting)
        starting.add_done_callback(partial(self._handle_started, outside))

    def _handle_started(self, outside: socket.socket, starting: "asyncio.Task[None]") -> None:
        self._starting.discard(starting)
        if not starting.cancelled() and starting.exception() is None:
            self._join(outside)
            return
        if not starting.cancelled():
            say(f"relay: the server did not start: {starting.exception()!r}")
        outside.close()
        self._demand.leave()

    def _join(self, outside: socket.socket) -> None:
        inside, self._spare = self._spare or self._connect(), None
        if inside is None:
            outside.close()
            self._demand.leave()
            return
        self._connections.add(RelayedConnection(outside, inside, self))
        if self._in_advance:
            self._spare = self._connect()

    def _end_advance(self) -> None:
        self._in_advance = False
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def _connect(self) -> socket.socket | None:
        inside = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            inside.connect(self._target)  # only the relay uses this backlog: it does not block
        except OSError as error:
            say(f"relay: {self._target}: {error}")
            inside.close()
            return None
        inside.setblocking(False)
        return inside
