"""A name server's address in the guest: questions that arrive there go to the shim.

Owns the sockets on that address and both streams with the shim; lives as long as the
guest.  Containers' questions are not understood here, only numbered.  Contract:
proto/names.py.  Imported when it is asked for.  Runs in the event loop.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from agent.console import say
from agent.errors import RuntimeFailure
from agent.streams import Streams
from proto.names import DNS_PORT, LENGTH, Frame, FrameDecoder, Transport

MAX_PENDING: Final = 256
"""Questions without an answer; the oldest is forgotten for a new one."""
MAX_CONNECTIONS: Final = 64
MAX_UNSENT: Final = 256
ANSWER_TIMEOUT_S: Final = 30.0
READ_BYTES: Final = 1 << 16

Answer = Callable[[bytes], object]


class NameServer:
    """Lifecycle: `open` once, `close`."""

    def __init__(self, questions: socket.socket, answers: socket.socket, port: int = DNS_PORT):
        """Takes both streams over."""
        self._questions = questions
        self._answers = answers
        self._port = port
        self._number = 0
        self._pending: dict[int, Answer] = {}
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue(MAX_UNSENT)
        self._tasks: list[asyncio.Task[None]] = []
        self._connections = 0
        self._datagrams: asyncio.DatagramTransport | None = None
        self._listener: asyncio.Server | None = None

    async def open(self, address: str) -> None:
        """OSError if the address is in use."""
        loop = asyncio.get_running_loop()
        local = (address, self._port)
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: Datagrams(self), local_addr=local
        )
        self._listener = await asyncio.start_server(self._serve, *local)
        self._tasks = [
            asyncio.create_task(self._send_questions()),
            asyncio.create_task(self._receive_answers()),
        ]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._datagrams is not None:
            self._datagrams.close()
        if self._listener is not None:
            self._listener.close()
        for stream in (self._questions, self._answers):
            stream.close()

    def ask(self, transport: Transport, question: bytes, answer: Answer) -> None:
        """`answer` is called once, or never."""
        if len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._number = (self._number + 1) & 0xFFFFFFFF
        frame = Frame(self._number, transport, question).encode()
        try:
            self._unsent.put_nowait(frame)
        except asyncio.QueueFull:
            return  # as if the question were lost on a network: who asked asks again
        self._pending[self._number] = answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection; its questions are answered one after another."""
        self._connections += 1
        try:
            while self._connections <= MAX_CONNECTIONS:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                    question = await reader.readexactly(length)
                    answer = await self._ask_and_wait(question)
                    writer.write(LENGTH.pack(len(answer)) + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            return  # who asked has gone, or gets no answer
        finally:
            self._connections -= 1
            writer.close()

    async def _ask_and_wait(self, question: bytes) -> bytes:
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(message: bytes) -> None:
            if not answered.done():
                answered.set_result(message)

        self.ask(Transport.TCP, question, answer)
        return await answered

    async def _send_questions(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await loop.sock_sendall(self._questions, await self._unsent.get())
        except OSError as error:
            say(f"name server: questions: {error}")

    async def _receive_answers(self) -> None:
        loop, decoder = asyncio.get_running_loop(), FrameDecoder()
        try:
            while data := await loop.sock_recv(self._answers, READ_BYTES):
                for frame in decoder.feed(data):
                    answer = self._pending.pop(frame.number, None)
                    if answer is not None:
                        answer(frame.message)
        except (OSError, ValueError) as error:
            say(f"name server: answers: {error}")


async def open_name_server(
    address: str, question_token: bytes, answer_token: bytes, streams: Streams
) -> NameServer:
    """RuntimeFailure if the address is in use."""
    questions, answers = await streams.take_all(question_token, answer_token)
    server = NameServer(questions, answers)
    try:
        await server.open(address)
    except OSError as error:
        server.close()
        raise RuntimeFailure(f"name server: {address}: {error}") from None
    return server


class Datagrams(asyncio.DatagramProtocol):
    """Questions over UDP."""

    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        transport = self._transport

        def answer(message: bytes) -> None:
            if transport is not None and not transport.is_closing():
                transport.sendto(message, address)

        self._server.ask(Transport.UDP, data, answer)
