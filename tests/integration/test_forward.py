"""Connections to the localhost of a network namespace reach servers in the guest.

The program of the kernel, the shim's part and the agent are the real ones; the guest is this
machine, whose localhost is not that of the namespace.  Threads stand for the vmm's streams.
"""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from proto.control import Direction
from proto.gen.agent.v1 import agent_pb2 as pb
from shim.errors import FailedPrecondition
from shim.host.netns import entered, make_namespace
from shim.machine.forward import LoopbackForward
from shim.machine.streams import Stream
from tests.integration.agent_run import DEADLINE_S, Agent
from tests.integration.test_network import ip

MUCH = 10 << 20
V4, V6, ANY = "127.0.0.1", "::1", "0.0.0.0"


class Machine:
    """What the forward needs of it: the agent's calls, and streams."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._threads: list[threading.Thread] = []

    async def wait_agent(self) -> Any:
        return self

    async def until_end(self, work: Coroutine[None, None, None]) -> None:
        await work

    async def forward(self, port: int, to_guest: str, from_guest: str) -> None:
        request = pb.ForwardRequest(port=port, to_guest_token=to_guest, from_guest_token=from_guest)
        try:
            await asyncio.to_thread(self._agent.stub.Forward, request, timeout=DEADLINE_S)
        except grpc.RpcError as error:
            raise FailedPrecondition(str(error)) from None

    def open_stream(self, fd: int, direction: Direction, token: str) -> Stream:
        closed = asyncio.get_running_loop().create_future()
        inside, outside = self._agent.connect(token), socket.socket(fileno=os.dup(fd))
        outside.settimeout(DEADLINE_S)
        ends = (outside, inside) if direction is Direction.TO_GUEST else (inside, outside)
        tell = (asyncio.get_running_loop().call_soon_threadsafe, closed.set_result, 0)
        thread = threading.Thread(target=move, args=(*ends, *tell))
        self._threads.append(thread)
        thread.start()
        return Stream(closed)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE_S)


def move(source: socket.socket, sink: socket.socket, call: Any, tell: Any, result: int) -> None:
    """As the vmm: the end of the source is the sink's, and then both are closed."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    if sink.family == socket.AF_UNIX:
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
    source.close()
    sink.close()
    with suppress(RuntimeError):  # the test has ended
        call(tell, result)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


@pytest.fixture
async def namespace(agent: Agent) -> AsyncIterator[int]:
    """With the forward attached."""
    made, machine = make_namespace(), Machine(agent)
    ip(made, "link set lo up")
    forward = LoopbackForward(made, machine)
    forward.attach()
    forward.serve()
    yield made
    forward.close()
    forward.close()
    await asyncio.to_thread(machine.join)
    os.close(made)


def listen(address: str, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family)
    listener.settimeout(DEADLINE_S)
    return listener


def connect(namespace: int, host: str, port: int) -> socket.socket:
    with entered(namespace):
        connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        connection.settimeout(DEADLINE_S)
        connection.connect((host, port))
    except OSError:
        connection.close()
        raise
    return connection


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(DEADLINE_S)
    return connection


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("listens", "asked"),
    [(V4, V4), (V4, V6), (V6, V6), (V6, V4), (ANY, V4), ("127.0.0.1", "127.9.9.9")],
)
async def test_a_server_of_the_guest_is_reached(namespace: int, listens: str, asked: str) -> None:
    def talk() -> tuple[bytes, bytes]:
        with closing(listen(listens)) as listener:
            port = listener.getsockname()[1]
            with connect(namespace, asked, port) as client, accept(listener) as server:
                client.sendall(b"question")
                client.shutdown(socket.SHUT_WR)
                heard = read_all(server)
                server.sendall(b"answer")
                server.close()
                return heard, read_all(client)

    assert await asyncio.to_thread(talk) == (b"question", b"answer")


async def test_much_passes_both_ways_at_once_and_each_way_ends_by_itself(namespace: int) -> None:
    data = os.urandom(MUCH)

    def talk() -> list[bytes]:
        with closing(listen(V4)) as listener:
            port = listener.getsockname()[1]
            with connect(namespace, V4, port) as client, accept(listener) as server:
                heard: list[bytes] = []
                reading = threading.Thread(target=lambda: heard.append(read_all(server)))
                writing = threading.Thread(target=send_and_end, args=(server, data))
                sending = threading.Thread(target=send_and_end, args=(client, data))
                for thread in (reading, writing, sending):
                    thread.start()
                heard.append(read_all(client))
                for thread in (reading, writing, sending):
                    thread.join(DEADLINE_S)
                return heard

    assert await asyncio.to_thread(talk) == [data, data]


def send_and_end(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


async def test_a_port_at_which_nobody_listens_is_a_reset(namespace: int) -> None:
    with closing(listen(V4)) as free:
        port = free.getsockname()[1]

    def talk() -> bytes:
        with connect(namespace, V4, port) as client:
            return client.recv(1)

    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(talk)


async def test_a_client_that_resets_ends_the_servers_connection(namespace: int) -> None:
    def talk() -> bytes:
        with closing(listen(V4)) as listener:
            client = connect(namespace, V4, listener.getsockname()[1])
            with accept(listener) as server:
                client.sendall(b"x")
                assert server.recv(1) == b"x"
                client.close()
                return server.recv(1)

    assert await asyncio.to_thread(talk) == b""


async def test_who_listens_in_the_namespace_itself_keeps_its_port(agent: Agent) -> None:
    """One that was there, and one that came later: that one's first connection is reset."""
    made, machine = make_namespace(), Machine(agent)
    ip(made, "link set lo up")
    with entered(made):
        early = listen("127.0.0.1")
    forward = LoopbackForward(made, machine)
    forward.attach()
    forward.serve()
    with entered(made):
        late = listen("0.0.0.0")

    def talk(listener: socket.socket) -> bytes:
        with connect(made, V4, listener.getsockname()[1]) as client:
            with accept(listener) as server:
                server.sendall(b"mine")
            return read_all(client)

    def ask() -> bytes:
        with connect(made, V4, late.getsockname()[1]) as client:
            return client.recv(1)

    assert await asyncio.to_thread(talk, early) == b"mine"
    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(ask)
    assert await asyncio.to_thread(talk, late) == b"mine"
    forward.close()
    await asyncio.to_thread(machine.join)
    for listener in (early, late):
        listener.close()
    os.close(made)


async def test_after_its_end_the_namespace_is_as_it_was(namespace: int, agent: Agent) -> None:
    other = make_namespace()
    ip(other, "link set lo up")
    forward = LoopbackForward(other, Machine(agent))
    forward.attach()
    forward.serve()
    forward.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(connect, other, V4, 80)
    os.close(other)


def test_the_agent_says_which_port_is_wrong(agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError, match="port: expected 1 to 65535, is 0"):
        agent.stub.Forward(
            pb.ForwardRequest(port=0, to_guest_token="0" * 32, from_guest_token="1" * 32),
            timeout=DEADLINE_S,
        )
