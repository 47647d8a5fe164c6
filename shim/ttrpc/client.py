"""Calls a ttrpc service over a unix socket: asyncio around ClientConnection.

One Client is one connection.  When it is lost every call in flight, and every
later one, raises ConnectionError; reconnecting is the caller's decision.
"""

import asyncio
from typing import Final

from shim.ttrpc.connection import ClientConnection
from shim.ttrpc.status import Code, StatusError

READ_BYTES: Final = 64 << 10


class Client:
    """Made by `connect_client`; lifecycle: any number of `call`s, then `close`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = ClientConnection()
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._lost: ConnectionError | None = None
        self._receiver = asyncio.create_task(self._receive())

    async def call(self, service: str, method: str, payload: bytes, timeout_s: float) -> bytes:
        """The answer's payload; StatusError, or ConnectionError when the peer is gone."""
        if self._lost is not None:
            raise self._lost
        stream, frame = self._protocol.encode_request(service, method, payload, timeout_s)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[stream] = answer
        try:
            self._writer.write(frame)
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            message = f"{service}/{method}: no answer after {timeout_s:g} s"
            raise StatusError(Code.DEADLINE_EXCEEDED, message) from error
        finally:
            del self._calls[stream]

    async def close(self) -> None:
        self._receiver.cancel()
        await asyncio.wait({self._receiver})
        self._writer.close()

    async def _receive(self) -> None:
        lost: ConnectionError | None = None
        try:
            while received := await self._reader.read(READ_BYTES):
                for response in self._protocol.receive(received):
                    self._settle(response.stream, response.payload, response.error)
        except OSError as error:
            lost = ConnectionResetError(f"ttrpc connection: {error}")
        finally:
            self._lost = lost or ConnectionResetError("ttrpc connection closed")
            for call in self._calls.values():
                if not call.done():
                    call.set_exception(self._lost)

    def _settle(self, stream: int, payload: bytes, error: StatusError | None) -> None:
        call = self._calls.get(stream)
        if call is None or call.done():
            return
        if error is not None:
            call.set_exception(error)
        else:
            call.set_result(payload)


async def connect_client(path: str) -> Client:
    reader, writer = await asyncio.open_unix_connection(path)
    return Client(reader, writer)
