"""Connections that the host makes to loopback addresses of a sandbox's network namespace go to
the guest, whose loopback is where its containers listen.

Kubernetes' port-forward connects to localhost:PORT inside the namespace.  Whatever the port,
the connection arrives at a socket of ours (shim/host/sk_lookup.py), the vmm moves its bytes,
and the agent connects to the port in the guest (agent/forward.py).  Ports at which somebody
listens in the namespace itself stay theirs; one who begins to listen later gets all
connections but the first, which is reset.

Owns the listening sockets and every connection.  On the event loop; idle, nothing runs.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final, Protocol

from proto.control import Direction
from shim.errors import SampanError
from shim.host.netns import entered
from shim.host.sk_lookup import LoopbackLookup
from shim.machine.streams import Stream, make_token
from shim.net.listeners import list_listening_ports

if TYPE_CHECKING:
    from shim.guest.client import AgentClient

MOST_CONNECTIONS: Final = 256
BACKLOG: Final = 64
ADDRESS: Final = ("127.255.255.254", 0)
"""Of the sockets at which connections arrive: an address that nobody else listens at."""
ADDRESS6: Final = ("::1", 0)
TABLES: Final = ("tcp", "tcp6")
RESET: Final = struct.pack("ii", 1, 0)
"""struct linger: close(2) resets the connection."""
log = logging.getLogger(__name__)


class ForwardingMachine(Protocol):
    """What it needs of the sandbox's machine."""

    async def wait_agent(self) -> "AgentClient": ...

    async def until_end(self, work: Coroutine[None, None, None]) -> None: ...

    def open_stream(self, fd: int, direction: Direction, token: str) -> Stream: ...


class LoopbackForward:
    """Lifecycle: `attach`, `serve`, `close`."""

    def __init__(self, namespace: int, machine: ForwardingMachine) -> None:
        """`namespace` stays the caller's."""
        self._namespace = namespace
        self._machine = machine
        self._listeners: list[socket.socket] = []
        self._lookup: LoopbackLookup | None = None
        self._carried: set[asyncio.Task[None]] = set()

    def attach(self) -> None:
        """OSError where the kernel cannot do this: nothing is forwarded then.  Takes tens of
        milliseconds, in which the kernel waits: callable from any thread."""
        try:
            taken = self._list_taken()
            with entered(self._namespace):
                ipv4 = self._listen(socket.AF_INET, ADDRESS)
                ipv6 = self._listen_ipv6()
            self._lookup = LoopbackLookup.attach(self._namespace, ipv4, ipv6, taken)
        except OSError:
            self._detach()
            raise

    def serve(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Idempotent."""
        for task in self._carried:
            task.cancel()
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
        self._detach()

    def _detach(self) -> None:
        if self._lookup is not None:
            self._lookup.close()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _listen(self, family: int, address: tuple[str, int]) -> socket.socket:
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
        listener.setblocking(False)
        self._listeners.append(listener)
        return listener

    def _listen_ipv6(self) -> socket.socket | None:
        """None in a namespace without IPv6."""
        try:
            return self._listen(socket.AF_INET6, ADDRESS6)
        except OSError:
            return None

    def _list_taken(self) -> set[int]:
        """Ports at which others listen."""
        ports: set[int] = set()
        with entered(self._namespace):
            for table in TABLES:
                try:
                    with open(f"/proc/thread-self/net/{table}", encoding="ascii") as file:
                        ports |= list_listening_ports(file.read())
                except FileNotFoundError:  # no IPv6
                    continue
        return ports - {listener.getsockname()[1] for listener in self._listeners}

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it has gone already
            return
        if len(self._carried) >= MOST_CONNECTIONS:
            reset(connection)
            return
        task = asyncio.create_task(self._carry(connection))
        self._carried.add(task)
        task.add_done_callback(lambda _: self._end(task, connection))

    def _end(self, task: "asyncio.Task[None]", connection: socket.socket) -> None:
        """Also of a task that was cancelled before it began."""
        self._carried.discard(task)
        connection.close()

    async def _carry(self, connection: socket.socket) -> None:
        port = connection.getsockname()[1]
        try:
            if self._lookup is not None and port in self._list_taken():
                self._lookup.leave_alone(port)
                reset(connection)
                return
            await self._join(connection, port)
        except (SampanError, OSError) as error:
            log.debug("a connection to port %d of localhost: %s", port, error)
            reset(connection)

    async def _join(self, connection: socket.socket, port: int) -> None:
        agent = await self._machine.wait_agent()
        tokens = make_token(), make_token()
        fd = connection.fileno()
        to_guest = self._machine.open_stream(fd, Direction.TO_GUEST, tokens[0])
        from_guest = self._machine.open_stream(fd, Direction.FROM_GUEST, tokens[1])
        try:
            await self._machine.until_end(agent.forward(port, *tokens))
        except SampanError:
            # Only when the vmm has closed its descriptors does closing ours reset anything: it
            # is told that no more comes from this side, and the agent has closed the other.
            shut_down(connection, socket.SHUT_RD)
            await asyncio.wait({from_guest.closed, to_guest.closed})
            raise
        await from_guest.closed
        shut_down(connection, socket.SHUT_WR)
        await to_guest.closed


def shut_down(connection: socket.socket, direction: int) -> None:
    try:
        connection.shutdown(direction)
    except OSError:  # the other side has reset it
        return


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
