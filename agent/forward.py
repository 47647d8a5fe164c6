"""A connection of the host's to a port of the guest's localhost.

Owns the TCP connection and both streams until both directions have ended.  Imported when it is
asked for.  Runs in the event loop.
"""

import asyncio
import socket
from contextlib import suppress

from agent.errors import FailedPrecondition, InvalidArgument
from agent.pump import Pump
from agent.streams import Streams

HOSTS = ("127.0.0.1", "::1")
"""In the order in which they are tried: a server may listen on one of them alone."""
MOST_PORT = 65535


class Forward:
    """Lifecycle: `start`; it ends by itself."""

    def __init__(
        self, connection: socket.socket, to_guest: socket.socket, from_guest: socket.socket
    ) -> None:
        """Takes all three over."""
        self._connection = connection
        self._to_guest = to_guest
        self._from_guest = from_guest
        self._running = 2
        for end in (connection, to_guest, from_guest):
            end.setblocking(False)

    def start(self) -> None:
        connection = self._connection.fileno()
        Pump(self._to_guest.fileno(), connection, self._end_input).start()
        Pump(connection, self._from_guest.fileno(), self._end_output).start()

    def _end_input(self) -> None:
        self._to_guest.close()
        with suppress(OSError):  # the server has closed it
            self._connection.shutdown(socket.SHUT_WR)
        self._end_one()

    def _end_output(self) -> None:
        self._from_guest.close()
        self._end_one()

    def _end_one(self) -> None:
        self._running -= 1
        if not self._running:
            self._connection.close()


async def open_forward(
    port: int, to_guest_token: bytes, from_guest_token: bytes, streams: Streams
) -> None:
    """FailedPrecondition if nobody listens at `port`."""
    if not 0 < port <= MOST_PORT:
        raise InvalidArgument(f"port: expected 1 to {MOST_PORT}, is {port}")
    to_guest, from_guest = await streams.take_all(to_guest_token, from_guest_token)
    try:
        connection = await connect(port)
    except BaseException:
        to_guest.close()
        from_guest.close()
        raise
    Forward(connection, to_guest, from_guest).start()


async def connect(port: int) -> socket.socket:
    loop, problem = asyncio.get_running_loop(), ""
    for host in HOSTS:
        connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, (host, port))
        except OSError as error:
            connection.close()
            problem = problem or f"{host}:{port}: {error.strerror}"
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise FailedPrecondition(problem)
