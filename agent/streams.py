"""Container stdio's connections from the host, found by their tokens.

Owns the listening socket and every connection until it is handed out.  The host
connects and requests the process in any order: an expected token gets its
connection at once; others wait here, for a bounded time and in bounded number.
"""

import asyncio
import socket
from typing import Final

from agent.errors import FailedPrecondition, InvalidArgument
from agent.listener import accept_nowait
from proto import contract

MAX_UNCLAIMED: Final = 256


def parse_token(text: str, field: str) -> bytes:
    """A token's raw bytes; InvalidArgument names `field`."""
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b""
    if len(token) != contract.STREAM_TOKEN_BYTES or token.hex() != text:
        raise InvalidArgument(
            f"{field}: {text!r} is not {contract.STREAM_TOKEN_BYTES * 2} lower-case hex digits"
        )
    return token


class Streams:
    """open() in the running loop; close() closes what nobody has taken."""

    def __init__(
        self, listener: socket.socket, timeout_s: float = contract.STREAM_CONNECT_TIMEOUT_S
    ):
        self._listener = listener
        self._timeout_s = timeout_s
        self._expected: dict[bytes, asyncio.Future[socket.socket]] = {}
        self._unclaimed: dict[bytes, socket.socket] = {}
        self._nameless: dict[socket.socket, bytearray] = {}
        self._timers: dict[socket.socket, asyncio.TimerHandle] = {}

    def open(self) -> None:
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for connection in [*self._nameless, *self._unclaimed.values()]:
            self._drop(connection)
        for future in self._expected.values():
            future.cancel()

    def expect(self, token: bytes) -> "asyncio.Future[socket.socket]":
        """From now on the connection with `token` waits as long as it takes.

        The future belongs to Streams: take() or release() returns its result.
        """
        if token in self._expected:
            raise InvalidArgument(f"stream token {token.hex()} is in use")
        future: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._expected[token] = future
        unclaimed = self._unclaimed.pop(token, None)
        if unclaimed is not None:
            self._timers.pop(unclaimed).cancel()
            future.set_result(unclaimed)
        return future

    def forget(self, token: bytes) -> None:
        """Ends an expectation, and the connection if it has come."""
        future = self._expected.pop(token, None)
        if future is None:
            return
        if future.done() and not future.cancelled():
            future.result().close()
        else:
            future.cancel()

    async def take(self, token: bytes) -> socket.socket:
        """The connection of an expected token; the caller owns it (and it does not block)."""
        future = self._expected[token]
        try:
            connection = await asyncio.wait_for(asyncio.shield(future), self._timeout_s)
        except TimeoutError:
            raise FailedPrecondition(
                f"the host did not connect stream {token.hex()} within {self._timeout_s:g} s"
            ) from None
        self.release(token)
        return connection

    async def take_all(self, *tokens: bytes) -> list[socket.socket]:
        """The connections of tokens that nobody expects yet; the caller owns them."""
        taken: list[socket.socket] = []
        for token in tokens:
            self.expect(token)
        try:
            for token in tokens:
                taken.append(await self.take(token))
        except BaseException:
            for connection in taken:
                connection.close()
            raise
        finally:
            for token in tokens:
                self.forget(token)
        return taken

    def release(self, token: bytes) -> None:
        """Gives the connection that has come to the caller."""
        self._expected.pop(token, None)

    def _accept(self) -> None:
        connection = accept_nowait(self._listener)
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        if len(self._timers) >= MAX_UNCLAIMED:
            connection.close()
            return
        self._nameless[connection] = bytearray()
        self._timers[connection] = loop.call_later(self._timeout_s, self._drop, connection)
        loop.add_reader(connection, self._read_token, connection)

    def _read_token(self, connection: socket.socket) -> None:
        """Bounds: never reads a byte beyond the token; what follows is the stream."""
        token = self._nameless[connection]
        try:
            got = connection.recv(contract.STREAM_TOKEN_BYTES - len(token))
        except BlockingIOError:
            return
        except OSError:
            got = b""
        if not got:
            self._drop(connection)
            return
        token += got
        if len(token) == contract.STREAM_TOKEN_BYTES:
            asyncio.get_running_loop().remove_reader(connection)
            del self._nameless[connection]
            self._arrive(bytes(token), connection)

    def _arrive(self, token: bytes, connection: socket.socket) -> None:
        future = self._expected.get(token)
        if future is not None and not future.done():
            self._timers.pop(connection).cancel()
            future.set_result(connection)
        elif future is not None or token in self._unclaimed:
            self._drop(connection)  # the first connection with a token gets it
        else:
            self._unclaimed[token] = connection

    def _drop(self, connection: socket.socket) -> None:
        self._timers.pop(connection).cancel()
        if self._nameless.pop(connection, None) is not None:
            asyncio.get_running_loop().remove_reader(connection)
        self._unclaimed = {t: c for t, c in self._unclaimed.items() if c is not connection}
        connection.close()
