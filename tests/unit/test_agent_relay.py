"""The relay: between connections from outside and a server that runs while there are any."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.listener import listen_unix
from agent.relay import Relay

MIB = 1 << 20
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class InnerServer:
    """In gRPC's place."""

    def __init__(self, path: Path, serve: Serve) -> None:
        self._path = path
        self._serve = serve
        self.starts = 0
        self.stopped = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def stop(self) -> None:
        self._server.close()
        self.stopped.set()


async def open_relay(
    directory: Path, serve: Serve, linger_s: float = 60
) -> tuple[Relay, InnerServer]:
    """Relays from the socket `outer` to a server that listens at `inner`."""
    server = InnerServer(directory / "inner", serve)
    outer = listen_unix(str(directory / "outer"))
    relay = Relay(outer, server, str(directory / "inner"), linger_s)
    await relay.open()
    return relay, server


async def test_a_relay_carries_both_ways_and_each_end_by_itself(tmp_path: Path) -> None:
    answered: asyncio.Queue[None] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read())
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
        answered.put_nowait(None)

    relay, _ = await open_relay(tmp_path, answer)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
    question = os.urandom(MIB)
    writer.write(question)
    writer.write_eof()
    assert await reader.read() == b"got " + question
    writer.close()
    await relay.close()
    for _ in range(2):  # the spare connection, too
        await answered.get()


async def test_the_server_has_greeted_before_anybody_comes(tmp_path: Path) -> None:
    """gRPC's server sends its greeting when a connection is accepted: in a template, before
    the clone exists."""
    greeted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        greeted.put_nowait(writer)

    relay, _ = await open_relay(tmp_path, greet)
    for _ in range(2):
        inner = await greeted.get()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
        assert await reader.readexactly(5) == b"hello"
        inner.close()
        assert await reader.read() == b""
        writer.close()
    last = await greeted.get()  # the spare one
    await relay.close()
    last.close()


async def test_a_server_without_a_connection_goes_and_comes_back(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    relay, server = await open_relay(tmp_path, echo, linger_s=0)
    for starts in (1, 2, 3):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        writer.close()
        assert server.starts == starts
        await server.stopped.wait()
        server.stopped.clear()
    await relay.close()


async def test_who_comes_to_a_server_that_cannot_start_is_told_by_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the next one may find it well."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    relay, server = await open_relay(tmp_path, greet, linger_s=0)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
    assert await reader.read() == b"hello"
    writer.close()
    await server.stopped.wait()
    server.start, start = refuse, server.start  # type: ignore[method-assign]
    reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
    assert await reader.read() == b""
    writer.close()
    server.start = start  # type: ignore[method-assign]
    reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
    assert await reader.read() == b"hello"
    writer.close()
    await relay.close()
    assert "the server did not start" in capfd.readouterr().err


async def refuse() -> None:
    raise OSError("no room")
