"""Serves ttrpc on a listening unix socket: asyncio around ServerConnection.

One Server for a process, one task for each call, any number at once, answered
in the order in which they end.  Only peers of our own uid are served
(SO_PEERCRED).  A call that has begun runs to its end even when its caller has
disconnected or its time is up: later calls undo it.  Exceptions are the calls
with `waits`, which change nothing and are cancelled.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from shim.host.peer import read_peer_uid
from shim.ttrpc.connection import RequestReceived, ServerConnection
from shim.ttrpc.status import Code, StatusError

Handler = Callable[[bytes], Awaitable[bytes]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Method:
    handler: Handler
    waits: bool = False
    """The method only waits for something: cancelled when its caller has gone."""


Services = Mapping[str, Mapping[str, Method]]


class Server:
    """Lifecycle: start, then close; `connections` may continue until they end.

    `describe_error` turns what a handler raised into a status; it must not raise.
    """

    def __init__(
        self, services: Services, describe_error: Callable[[BaseException], StatusError]
    ) -> None:
        self._services = services
        self._describe_error = describe_error
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._was_called = False

    async def start(self, listener: socket.socket) -> None:
        """Takes `listener`, bound and listening, over."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, sock=listener)

    @property
    def was_called(self) -> bool:
        """Whether anyone has ever connected."""
        return self._was_called

    async def close(self, timeout_s: float) -> None:
        """Stops accepting, waits until due answers are sent, ends every connection."""
        if self._server is not None:
            self._server.close()
        calls = {call for connection in self._connections for call in connection.due_answers()}
        if calls:
            await asyncio.wait(calls, timeout=timeout_s)
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> asyncio.Protocol:
        self._was_called = True
        return _Connection(self._services, self._describe_error, self._connections)


class _Connection(asyncio.Protocol):
    def __init__(
        self,
        services: Services,
        describe_error: Callable[[BaseException], StatusError],
        connections: "set[_Connection]",
    ) -> None:
        self._services = services
        self._describe_error = describe_error
        self._connections = connections
        self._protocol = ServerConnection()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[asyncio.Task[None], Method | None] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (a stream socket)
        uid = read_peer_uid(transport.get_extra_info("socket"))
        if uid != os.geteuid():
            log.warning("refused a connection of uid %d", uid)
            transport.abort()
            return
        self._transport = transport
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        requests, answers = self._protocol.receive(data)
        if answers:
            self._send(answers)
        for request in requests:
            method = self._services.get(request.service, {}).get(request.method)
            call = asyncio.ensure_future(self._serve(request, method))
            self._calls[call] = method
            call.add_done_callback(self._calls.pop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        for call, method in list(self._calls.items()):
            if method is not None and method.waits:
                call.cancel()

    def due_answers(self) -> "set[asyncio.Task[None]]":
        """Calls that end soon, as opposed to those that wait for something."""
        return {call for call, method in self._calls.items() if method and not method.waits}

    def close(self) -> None:
        """Sends first what was written before."""
        if self._transport is not None:
            self._transport.close()

    async def _serve(self, request: RequestReceived, method: Method | None) -> None:
        try:
            payload = await self._run(request, method)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            status = self._describe_error(error)
            answer = self._protocol.encode_error(request.stream, status.code, status.message)
        else:
            answer = self._protocol.encode_response(request.stream, payload)
        self._send(answer)

    async def _run(self, request: RequestReceived, method: Method | None) -> bytes:
        if method is None:
            raise StatusError(
                Code.UNIMPLEMENTED, f"no method {request.method} of service {request.service}"
            )
        call = asyncio.ensure_future(method.handler(request.payload))
        try:
            done, _ = await asyncio.wait({call}, timeout=request.timeout_s)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if not done:
            if method.waits:
                call.cancel()
            call.add_done_callback(_forget_result)
            raise StatusError(
                Code.DEADLINE_EXCEEDED, f"{request.method}: not done after {request.timeout_s:g} s"
            )
        if call.cancelled():  # by itself: the caller still waits for an answer
            raise StatusError(Code.CANCELED, f"{request.method}: cancelled by the server")
        return call.result()

    def _send(self, frames: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frames)


def _forget_result(call: "asyncio.Future[bytes]") -> None:
    if not call.cancelled() and (error := call.exception()) is not None:
        log.warning("a call failed after its caller had stopped waiting: %s", error)
