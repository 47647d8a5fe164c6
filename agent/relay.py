"""Joins vsock connections to the gRPC server's unix socket.

grpcio's wheel is built without vsock addresses.  The listening socket may be older
than the server: connections made meanwhile wait in its backlog, so the host needs
to connect only once.  One connection to the server is opened in advance, so that
the server has already accepted it when the next client connects: in a template,
before its clones exist.  Runs in the event loop.
"""

import asyncio
import socket

from agent.console import say
from agent.listener import accept_nowait
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
    """open() in the running loop once the server listens at `target`; close() ends all
    connections."""

    def __init__(self, listener: socket.socket, target: str) -> None:
        self._listener = listener
        self._target = target
        self._connections: set[RelayedConnection] = set()
        self._spare: socket.socket | None = None

    def open(self) -> None:
        self._listener.setblocking(False)
        self._spare = self._connect()
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        if self._spare is not None:
            self._spare.close()
        for connection in list(self._connections):
            connection.close()

    def forget(self, connection: RelayedConnection) -> None:
        self._connections.discard(connection)

    def _accept(self) -> None:
        outside = accept_nowait(self._listener)
        if outside is None:
            return
        inside, self._spare = self._spare or self._connect(), None
        if inside is None:
            outside.close()
            return
        self._connections.add(RelayedConnection(outside, inside, self))
        self._spare = self._connect()

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
