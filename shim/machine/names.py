"""Brings a guest's questions to the name server on a loopback address of its namespace.

docker gives containers on networks of one's own the name server 127.0.0.11, which listens
inside the container's network namespace.  A guest has a loopback of its own: the agent
sends the questions that arrive there (agent/names.py), each is asked here by a socket of
the namespace, and the answer goes back.  Contract: proto/names.py.

What comes from the guest is hostile: bounded in length by its frames and in number by
MAX_ASKED; while so many are asked, the stream is not read.  On the event loop.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from typing import Final

from proto.control import Direction
from proto.names import LENGTH, MAX_MESSAGE_BYTES, Frame, FrameDecoder, Transport
from shim.host.netns import entered
from shim.machine.streams import Stream, make_token
from shim.net.listeners import TCP_LISTENING, UDP_UNCONNECTED, find_port

ADDRESS: Final = "127.0.0.11"
MAX_ASKED: Final = 64
MAX_UNSENT_BYTES: Final = 1 << 20
"""Of answers that the guest does not read; further ones are dropped."""
ANSWER_TIMEOUT_S: Final = 20.0
READ_BYTES: Final = 1 << 16
KINDS: Final = {
    Transport.UDP: (socket.SOCK_DGRAM, "udp", UDP_UNCONNECTED),
    Transport.TCP: (socket.SOCK_STREAM, "tcp", TCP_LISTENING),
}
log = logging.getLogger(__name__)


def find_name_server(namespace: int, transport: Transport = Transport.UDP) -> int:
    """Its port in `namespace`; 0 if there is none.  docker chooses the ports."""
    _, table, state = KINDS[transport]
    with (
        entered(namespace),
        open(f"/proc/thread-self/net/{table}", encoding="ascii") as file,
    ):
        return find_port(file.read(), ADDRESS, state)


class NameRelay:
    """Lifecycle: `open`, then the agent is told the tokens; `close`."""

    def __init__(self, namespace: int) -> None:
        """`namespace` stays the caller's."""
        self._namespace = namespace
        self._decoder = FrameDecoder()
        self._asked: set[asyncio.Task[None]] = set()
        self._waiting: list[Frame] = []
        self._unsent = bytearray()
        self._questions, self._answers = -1, -1

    def open(self, open_stream: Callable[[int, Direction, str], Stream]) -> tuple[str, str]:
        """The tokens of the streams of questions and of answers."""
        tokens = make_token(), make_token()
        self._questions, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            open_stream(theirs, Direction.FROM_GUEST, tokens[0])
        finally:
            os.close(theirs)
        theirs, self._answers = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            open_stream(theirs, Direction.TO_GUEST, tokens[1])
        finally:
            os.close(theirs)
        self._listen()
        return tokens

    def close(self) -> None:
        """Idempotent."""
        for task in self._asked:
            task.cancel()
        loop = asyncio.get_running_loop()
        if self._questions >= 0:
            loop.remove_reader(self._questions)
            os.close(self._questions)
        if self._answers >= 0:
            loop.remove_writer(self._answers)
            os.close(self._answers)
        self._questions, self._answers = -1, -1

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._questions, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._questions, READ_BYTES)
            self._waiting += self._decoder.feed(data)
        except BlockingIOError:
            return
        except ValueError as error:
            log.error("name server: the guest sends no questions of ours: %s", error)
            data = b""
        if not data or len(self._waiting) + len(self._asked) > MAX_ASKED:
            asyncio.get_running_loop().remove_reader(self._questions)
        self._ask_next()

    def _ask_next(self) -> None:
        while self._waiting and len(self._asked) < MAX_ASKED:
            task = asyncio.create_task(self._answer(self._waiting.pop(0)))
            self._asked.add(task)
            task.add_done_callback(self._end_question)

    def _end_question(self, task: "asyncio.Task[None]") -> None:
        self._asked.discard(task)
        if self._questions >= 0:
            self._ask_next()
            if not self._waiting:
                self._listen()

    async def _answer(self, question: Frame) -> None:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                message = await self._ask(question)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.debug("name server: no answer: %r", error)
            return
        self._send(question._replace(message=message).encode())

    async def _ask(self, question: Frame) -> bytes:
        port = find_name_server(self._namespace, question.transport)
        loop = asyncio.get_running_loop()
        with entered(self._namespace):
            asking = socket.socket(socket.AF_INET, KINDS[question.transport][0])
        with asking:
            asking.setblocking(False)
            await loop.sock_connect(asking, (ADDRESS, port))
            if question.transport is Transport.UDP:
                await loop.sock_sendall(asking, question.message)
                return await loop.sock_recv(asking, MAX_MESSAGE_BYTES)
            await loop.sock_sendall(asking, LENGTH.pack(len(question.message)) + question.message)
            (length,) = LENGTH.unpack(await receive(asking, LENGTH.size))
            return await receive(asking, length)

    def _send(self, frame: bytes) -> None:
        if self._answers < 0 or len(self._unsent) + len(frame) > MAX_UNSENT_BYTES:
            return
        self._unsent += frame
        self._write()

    def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            del self._unsent[: os.write(self._answers, self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # the machine has ended
            self._unsent.clear()
        if self._unsent:
            loop.add_writer(self._answers, self._write)
        else:
            loop.remove_writer(self._answers)


async def receive(connection: socket.socket, count: int) -> bytes:
    """IncompleteReadError if the connection ends before."""
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(connection, count - len(data))
        if not more:
            raise asyncio.IncompleteReadError(data, count)
        data += more
    return data
