"""The agent's parts in an event loop: reaping, moving bytes, finding streams.

No root, no containers: real pipes, sockets, ptys and children of this process.
"""

import asyncio
import contextlib
import os
import pty
import socket
import tty
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.errors import FailedPrecondition, InvalidArgument
from agent.listener import accept_nowait, listen_unix
from agent.oom import OomWatch
from agent.pump import Pump
from agent.reaper import Exit, Reaper
from agent.relay import Relay
from agent.streams import Streams
from agent.watch import FileWatch
from proto.contract import GUEST_CID, HOST_CID

MIB = 1 << 20
TOKEN = bytes(range(16))


# --- reaper -------------------------------------------------------------------


@pytest.fixture
async def reaper() -> AsyncIterator[Reaper]:
    reaper = Reaper()
    reaper.open()
    yield reaper
    reaper.close()


def spawn(script: str) -> int:
    return os.posix_spawn("/bin/sh", ["sh", "-c", script], {})


def wait_ended(pid: int) -> None:
    """Waits for its end without reaping it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_each_claim_gets_its_own_childs_end(reaper: Reaper) -> None:
    claims = [reaper.claim(spawn(f"exit {number}")) for number in range(20)]
    ends = await asyncio.gather(*claims)
    assert [end.status for end in ends] == list(range(20))
    assert all(end.ended_at_ns > 0 for end in ends)


async def test_a_signal_is_128_and_its_number(reaper: Reaper) -> None:
    assert (await reaper.claim(spawn("kill -TERM $$"))).status == 143


async def test_an_orphan_that_ends_before_its_pid_is_known_is_not_lost(reaper: Reaper) -> None:
    with reaper.adoption():
        pid = spawn("exit 9")
        wait_ended(pid)
        reaper.reap()
        assert (await reaper.claim(pid)).status == 9


async def test_an_end_from_before_an_adoption_is_not_taken_for_a_later_process(
    reaper: Reaper,
) -> None:
    """Pids are reused."""
    stale = Exit(1, 0)
    with reaper.adoption():
        reaper.record(4242, stale)
    with reaper.adoption():
        assert not reaper.claim(4242).done()


async def test_an_adoption_does_not_forget_what_an_overlapping_one_waits_for(
    reaper: Reaper,
) -> None:
    kept = Exit(3, 0)
    first = reaper.adoption()
    first.__enter__()
    with reaper.adoption():
        reaper.record(4242, kept)
    assert reaper.claim(4242).result() == kept
    first.__exit__(None, None, None)


# --- pump ---------------------------------------------------------------------


class Plumbing:
    """A pump with two descriptors of its own on each side."""

    def __init__(self, kind: str) -> None:
        if kind == "pty":
            self.source, self.feed = pty.openpty()
            tty.setraw(self.feed)
        else:
            self.source, self.feed = os.pipe()
        ours, theirs = socket.socketpair()
        self.sink, self.out = ours.detach(), theirs
        os.set_blocking(self.source, False)
        os.set_blocking(self.sink, False)
        self.out.setblocking(False)
        self.finished = asyncio.Event()
        self.pump = Pump(self.source, self.sink, self.finish, splice=kind == "splice")
        self.pump.start()

    def finish(self) -> None:
        os.close(self.source)
        os.close(self.sink)
        self.source = -1
        self.finished.set()

    def close(self) -> None:
        self.pump.stop()
        if self.source >= 0:
            self.finish()
        self.out.close()
        if self.feed >= 0:
            os.close(self.feed)

    def end_feed(self) -> None:
        os.close(self.feed)
        self.feed = -1

    async def receive(self) -> bytes:
        got = bytearray()
        while chunk := await asyncio.get_running_loop().sock_recv(self.out, MIB):
            got += chunk
        return bytes(got)


@pytest.fixture(params=["splice", "copy", "pty"])
async def plumbing(request: pytest.FixtureRequest) -> AsyncIterator[Plumbing]:
    plumbing = Plumbing(request.param)
    yield plumbing
    plumbing.close()


async def test_everything_arrives_and_then_the_end(plumbing: Plumbing) -> None:
    data = os.urandom(4 * MIB)

    def feed() -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(plumbing.feed, rest[:65536]) :]
        plumbing.end_feed()

    received, _ = await asyncio.gather(plumbing.receive(), asyncio.to_thread(feed))
    assert received == data
    assert plumbing.finished.is_set()


async def test_a_reader_that_goes_ends_the_pump(plumbing: Plumbing) -> None:
    plumbing.out.close()
    os.write(plumbing.feed, b"x")
    await plumbing.finished.wait()
    await plumbing.pump.wait_drained()


@pytest.mark.parametrize("kind", ["splice", "copy"])
async def test_the_drain_waits_for_what_was_there_and_for_no_more(kind: str) -> None:
    """Another process may have the pipe open and continue to write to it."""
    async with AsyncExitStack() as stack:
        plumbing = Plumbing(kind)
        stack.callback(plumbing.close)
        plumbing.pump.stop()  # so that the bytes stay in the pipe until they are counted
        pump = Pump(plumbing.source, plumbing.sink, plumbing.finish, splice=kind == "splice")
        stack.callback(pump.stop)
        os.write(plumbing.feed, b"last words")
        pump.start()
        pump.mark_drained()
        await pump.wait_drained()
        assert plumbing.out.recv(100) == b"last words"
        assert not plumbing.finished.is_set()


async def test_an_empty_source_is_drained_at_once() -> None:
    plumbing = Plumbing("splice")
    plumbing.pump.mark_drained()
    await plumbing.pump.wait_drained()
    plumbing.close()


# --- streams ------------------------------------------------------------------


async def settle() -> None:
    """Lets the loop handle what has arrived; a unix socket's bytes have, once sent."""
    for _ in range(10):
        await asyncio.sleep(0)


class Listening:
    def __init__(self, path: Path, timeout_s: float = 60) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        self.path = str(path)
        self.streams = Streams(listener, timeout_s)
        self.streams.open()

    async def connect(self, data: bytes) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX)
        stream.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stream, self.path)
        stream.send(data)
        return stream


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Listening]:
    listening = Listening(tmp_path / "streams")
    yield listening
    listening.streams.close()


async def test_a_stream_that_is_early_waits_and_keeps_its_bytes(listening: Listening) -> None:
    with await listening.connect(TOKEN + b"data") as theirs:
        await settle()
        listening.streams.expect(TOKEN)
        with await listening.streams.take(TOKEN) as ours:
            assert ours.recv(100) == b"data"
            ours.send(b"back")
            assert await asyncio.get_running_loop().sock_recv(theirs, 100) == b"back"


async def test_a_token_may_come_in_pieces(listening: Listening) -> None:
    listening.streams.expect(TOKEN)
    with await listening.connect(TOKEN[:5]) as theirs:
        taking = asyncio.ensure_future(listening.streams.take(TOKEN))
        await asyncio.sleep(0)
        theirs.send(TOKEN[5:] + b"x")
        with await taking as ours:
            assert ours.recv(100) == b"x"


async def test_a_stream_that_never_comes_is_named(tmp_path: Path) -> None:
    listening = Listening(tmp_path / "streams", timeout_s=0.01)
    listening.streams.expect(TOKEN)
    with pytest.raises(FailedPrecondition, match=TOKEN.hex()):
        await listening.streams.take(TOKEN)
    listening.streams.close()


@pytest.mark.parametrize("data", [TOKEN, TOKEN[:3], b""])
async def test_a_stream_that_nobody_wants_is_dropped_after_a_while(
    tmp_path: Path, data: bytes
) -> None:
    listening = Listening(tmp_path / "streams", timeout_s=0.01)
    with await listening.connect(data) as theirs:
        assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
    assert not listening.streams._timers
    listening.streams.close()


async def test_an_expected_stream_outlasts_that_while(tmp_path: Path) -> None:
    """An exec may be started long after it was added."""
    listening = Listening(tmp_path / "streams", timeout_s=0.01)
    listening.streams.expect(TOKEN)
    with await listening.connect(TOKEN) as theirs:
        await asyncio.sleep(0.03)
        with await listening.streams.take(TOKEN) as ours:
            ours.send(b"x")
            assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b"x"
    listening.streams.close()


async def test_a_forgotten_token_closes_its_connection(listening: Listening) -> None:
    listening.streams.expect(TOKEN)
    with await listening.connect(TOKEN) as theirs:
        await settle()
        listening.streams.forget(TOKEN)
        assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
    listening.streams.forget(TOKEN)


async def test_one_token_is_not_two_streams(listening: Listening) -> None:
    listening.streams.expect(TOKEN)
    with pytest.raises(InvalidArgument, match="in use"):
        listening.streams.expect(TOKEN)


class VsockListener:
    """The part of a listening vsock socket that accept_nowait() uses."""

    def __init__(self, cid: int) -> None:
        self.cid = cid
        self.closed = False
        self.family = socket.AF_VSOCK

    def accept(self) -> tuple["VsockListener", tuple[int, int]]:
        return self, (self.cid, 5000)

    def setblocking(self, _: bool) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_only_the_host_is_let_in() -> None:
    """A container's process may connect to the agent's port."""
    host, container = VsockListener(HOST_CID), VsockListener(GUEST_CID)
    assert accept_nowait(host) is host  # type: ignore[arg-type,comparison-overlap]
    assert not host.closed
    assert accept_nowait(container) is None  # type: ignore[arg-type]
    assert container.closed


# --- relay --------------------------------------------------------------------


def open_relay(directory: Path) -> Relay:
    """Relays from the socket `outer` to a server that listens at `inner`."""
    relay = Relay(listen_unix(str(directory / "outer")), str(directory / "inner"))
    relay.open()
    return relay


async def test_a_relay_carries_both_ways_and_each_end_by_itself(tmp_path: Path) -> None:
    answered: asyncio.Queue[None] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"got " + await reader.read())
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()
        answered.put_nowait(None)

    server = await asyncio.start_unix_server(answer, tmp_path / "inner")
    relay = open_relay(tmp_path)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
    question = os.urandom(MIB)
    writer.write(question)
    writer.write_eof()
    assert await reader.read() == b"got " + question
    writer.close()
    relay.close()
    for _ in range(2):  # the spare connection, too
        await answered.get()
    server.close()


async def test_the_server_has_greeted_before_anybody_comes(tmp_path: Path) -> None:
    """gRPC's server sends its greeting when a connection is accepted: in a template, before
    the clone exists."""
    greeted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        greeted.put_nowait(writer)

    server = await asyncio.start_unix_server(greet, tmp_path / "inner")
    relay = open_relay(tmp_path)
    for _ in range(2):
        inner = await greeted.get()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "outer")
        assert await reader.readexactly(5) == b"hello"
        inner.close()
        assert await reader.read() == b""
        writer.close()
    last = await greeted.get()  # the spare one
    relay.close()
    last.close()
    server.close()


# --- watches ------------------------------------------------------------------


class Counter:
    """The part of a cgroup that OomWatch uses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write(0)

    def write(self, kills: int) -> None:
        self.path.write_text(f"low 0\noom_kill {kills}\n")

    def path_of(self, _: str) -> str:
        return str(self.path)

    def count_oom_kills(self) -> int:
        return int(self.path.read_text().split()[-1] or 0)


async def test_each_kill_is_reported_once_also_when_several_come_together(tmp_path: Path) -> None:
    files = FileWatch()
    files.open()
    oom = OomWatch(files)
    cgroup = Counter(tmp_path / "memory.events")
    oom.add("c1", cgroup)  # type: ignore[arg-type]
    with oom.subscribe() as kills:
        cgroup.write(2)
        assert [tuple(await kills.get()) for _ in range(2)] == [("c1", 1), ("c1", 2)]
        cgroup.write(3)
        oom.check("c1", cgroup)  # type: ignore[arg-type]
        oom.check("c1", cgroup)  # type: ignore[arg-type]
        assert tuple(await kills.get()) == ("c1", 3)
        assert kills.empty()
    oom.remove("c1")
    files.close()


async def test_a_watch_that_was_removed_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    files = FileWatch()
    files.open()
    calls: list[str] = []
    changed = asyncio.Event()
    removed = files.add(str(path), lambda: calls.append("removed"))
    files.remove(removed)
    other = tmp_path / "other"
    other.write_text("")
    files.add(str(other), changed.set)
    path.write_text("x")
    other.write_text("x")
    await changed.wait()
    other.unlink()
    assert calls == []
    files.close()
