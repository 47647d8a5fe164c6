"""Questions from a guest's loopback to a name server inside a namespace of the host.

Both ends are real: the agent's sockets on an address here, docker's name server played by
sockets in another network namespace.  A pair of pipes stands for the streams of the machine.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from agent.names import MAX_CONNECTIONS, NameServer
from proto.control import Direction
from shim.host.netns import entered, make_namespace
from shim.machine.names import ADDRESS, NameRelay, find_name_server
from shim.machine.streams import Stream
from tests.integration.test_network import ip

HERE = "127.0.0.1"
PORT = 5377
DEADLINE_S = 20


class Streams:
    """What the vmm and vsock are between the two: descriptors joined with sockets."""

    def __init__(self) -> None:
        self.ends: dict[Direction, socket.socket] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, descriptor: int, direction: Direction, token: str) -> Stream:
        ours, self.ends[direction] = socket.socketpair()
        for end in (ours, self.ends[direction]):
            end.setblocking(False)
        move = self._to_guest if direction is Direction.TO_GUEST else self._from_guest
        self._tasks.append(asyncio.create_task(move(os.dup(descriptor), ours)))
        return Stream(asyncio.get_running_loop().create_future())

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _to_guest(self, source: int, sink: socket.socket) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(source, ready.set)
        try:
            while True:
                await ready.wait()
                ready.clear()
                try:
                    await loop.sock_sendall(sink, os.read(source, 65536))
                except BlockingIOError:
                    continue
        finally:
            loop.remove_reader(source)
            os.close(source)
            sink.close()

    async def _from_guest(self, sink: int, source: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(source, 4096):
                while data:
                    try:
                        data = data[os.write(sink, data) :]
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
        finally:
            os.close(sink)
            source.close()


class DockersServer:
    """Answers each question with itself in capitals, at ports of its own choice."""

    def __init__(self, namespace: int) -> None:
        with entered(namespace):
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.udp.bind((ADDRESS, 0))
        self.tcp.bind((ADDRESS, 0))
        self.tcp.listen()
        for listener in (self.udp, self.tcp):
            listener.setblocking(False)
        self.tasks = [
            asyncio.create_task(self._serve_udp()),
            asyncio.create_task(self._serve_tcp()),
        ]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.udp.close()
        self.tcp.close()

    async def _serve_udp(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            question, source = await loop.sock_recvfrom(self.udp, 65535)
            await loop.sock_sendto(self.udp, question.upper(), source)

    async def _serve_tcp(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self.tcp)
            with connection:
                head = await loop.sock_recv(connection, 2)
                question = b""
                while len(question) < int.from_bytes(head):
                    question += await loop.sock_recv(connection, 65535)
                await loop.sock_sendall(connection, head + question.upper())


@pytest.fixture
async def namespace() -> AsyncIterator[int]:
    made = make_namespace()
    ip(made, "link set lo up")
    yield made
    os.close(made)


@pytest.fixture
async def dockers(namespace: int) -> AsyncIterator[DockersServer]:
    server = DockersServer(namespace)
    yield server
    await server.close()


@pytest.fixture
async def guest(namespace: int) -> AsyncIterator[NameServer]:
    streams, relay = Streams(), NameRelay(namespace)
    relay.open(streams.open)
    ends = streams.ends
    server = NameServer(ends[Direction.FROM_GUEST], ends[Direction.TO_GUEST], PORT)
    await server.open(HERE)
    yield server
    server.close()
    relay.close()
    relay.close()
    await streams.close()
    await asyncio.sleep(0)


async def ask_udp(question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        asking.setblocking(False)
        await loop.sock_connect(asking, (HERE, PORT))
        await loop.sock_sendall(asking, question)
        async with asyncio.timeout(DEADLINE_S):
            return await loop.sock_recv(asking, 65535)


async def ask_tcp(*questions: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection(HERE, PORT)
    answers = []
    async with asyncio.timeout(DEADLINE_S):
        for question in questions:
            writer.write(struct.pack("!H", len(question)) + question)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answers.append(await reader.readexactly(length))
        writer.close()
        await writer.wait_closed()
    return answers


async def test_a_namespace_without_a_name_server_has_none(namespace: int) -> None:
    assert find_name_server(namespace) == 0


async def test_questions_over_udp_get_their_own_answers(
    dockers: DockersServer, guest: NameServer
) -> None:
    questions = [b"question %d" % number for number in range(100)]
    answers = await asyncio.gather(*(ask_udp(question) for question in questions))
    assert answers == [question.upper() for question in questions]


async def test_questions_over_tcp_are_answered_in_turn_and_whole(
    dockers: DockersServer, guest: NameServer
) -> None:
    questions = (b"one", b"x" * 65535, b"")
    assert await ask_tcp(*questions) == [question.upper() for question in questions]


async def test_a_name_server_that_comes_later_is_asked(namespace: int, guest: NameServer) -> None:
    """dockerd that was restarted listens at other ports."""
    server = DockersServer(namespace)
    try:
        assert await ask_udp(b"first") == b"FIRST"
        await server.close()
        server = DockersServer(namespace)
        assert await ask_udp(b"second") == b"SECOND"
    finally:
        await server.close()


async def test_more_connections_than_are_served_end(
    dockers: DockersServer, guest: NameServer
) -> None:
    ends = [await asyncio.open_connection(HERE, PORT) for _ in range(MAX_CONNECTIONS + 1)]
    async with asyncio.timeout(DEADLINE_S):
        assert await ends[-1][0].read() == b""
    for _, writer in ends:
        writer.close()
        await writer.wait_closed()
    assert await ask_udp(b"still") == b"STILL"
