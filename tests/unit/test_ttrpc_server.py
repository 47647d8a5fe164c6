"""The ttrpc server and client over real unix sockets."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shim.containerd.loop import end_unless_called
from shim.ttrpc import server as server_module
from shim.ttrpc.client import Client, connect_client
from shim.ttrpc.frames import HEADER, FrameType
from shim.ttrpc.server import Method, Server
from shim.ttrpc.status import Code, StatusError
from tests.fakes.ttrpc import serving


def describe(error: BaseException) -> StatusError:
    if isinstance(error, StatusError):
        return error
    return StatusError(Code.UNKNOWN, f"{type(error).__name__}: {error}")


class Service:
    """Methods that answer, wait, fail; `held` counts calls that wait."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.held = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.finished = asyncio.Event()

    async def echo(self, payload: bytes) -> bytes:
        return payload

    async def hold(self, payload: bytes) -> bytes:
        self.held.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        self.finished.set()
        return payload

    async def give_up(self, _: bytes) -> bytes:
        """Raises as code does that awaits what others have cancelled."""
        raise asyncio.CancelledError

    async def fail(self, payload: bytes) -> bytes:
        raise RuntimeError(payload.decode())


@pytest.fixture
async def service() -> Service:
    return Service()


@pytest.fixture
async def path(service: Service, tmp_path: Path) -> AsyncIterator[str]:
    methods = {
        "Echo": Method(service.echo),
        "Work": Method(service.hold),
        "Wait": Method(service.hold, waits=True),
        "Fail": Method(service.fail),
        "GiveUp": Method(service.give_up),
    }
    async with serving(str(tmp_path / "s"), {"s": methods}, describe) as path:
        yield path
        service.release.set()


@pytest.fixture
async def client(path: str) -> AsyncIterator[Client]:
    client = await connect_client(path)
    yield client
    await client.close()


async def test_calls_are_answered_as_they_end_not_as_they_came(
    client: Client, service: Service
) -> None:
    held = asyncio.create_task(client.call("s", "Wait", b"first", 30))
    await service.held.wait()
    assert await client.call("s", "Echo", b"second", 30) == b"second"
    service.release.set()
    assert await held == b"first"


async def test_many_calls_at_once_each_get_their_own_answer(client: Client) -> None:
    payloads = [str(number).encode() for number in range(200)]
    answers = await asyncio.gather(*(client.call("s", "Echo", p, 30) for p in payloads))
    assert answers == payloads


@pytest.mark.parametrize(("name", "method"), [("s", "Nothing"), ("other", "Echo")])
async def test_unknown_service_or_method_is_unimplemented(
    client: Client, name: str, method: str
) -> None:
    with pytest.raises(StatusError) as caught:
        await client.call(name, method, b"", 30)
    assert caught.value.code == Code.UNIMPLEMENTED


async def test_a_handlers_exception_is_the_callers_error_and_the_server_goes_on(
    client: Client,
) -> None:
    with pytest.raises(StatusError, match="RuntimeError: broken"):
        await client.call("s", "Fail", b"broken", 30)
    assert await client.call("s", "Echo", b"still here", 30) == b"still here"


async def test_a_handler_that_is_cancelled_by_nobodys_request_is_answered(client: Client) -> None:
    with pytest.raises(StatusError) as caught:
        await client.call("s", "GiveUp", b"", 30)
    assert caught.value.code == Code.CANCELED
    assert await client.call("s", "Echo", b"still here", 30) == b"still here"


async def test_garbage_on_one_connection_does_not_touch_another(path: str, client: Client) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(HEADER.pack(4, 1, FrameType.REQUEST, 0) + b"\xff\xff\xff\xff" + os.urandom(4096))
    header = await reader.readexactly(HEADER.size)
    assert HEADER.unpack(header)[1:3] == (1, FrameType.RESPONSE)
    writer.close()
    assert await client.call("s", "Echo", b"ok", 30) == b"ok"


async def test_a_call_past_its_time_is_answered_but_runs_to_its_end(
    client: Client, service: Service
) -> None:
    stream, frame = client._protocol.encode_request("s", "Work", b"", 0.01)
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    client._calls[stream] = answer
    client._writer.write(frame)
    with pytest.raises(StatusError) as caught:
        await answer
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert not service.cancelled.is_set()
    service.release.set()
    await service.finished.wait()


async def test_a_waiting_call_is_cancelled_when_its_caller_leaves(
    path: str, service: Service
) -> None:
    leaving = await connect_client(path)
    call = asyncio.create_task(leaving.call("s", "Wait", b"", 30))
    await service.held.wait()
    await leaving.close()
    with pytest.raises(ConnectionError):
        await call
    await service.cancelled.wait()


async def test_work_goes_on_when_its_caller_leaves(path: str, service: Service) -> None:
    leaving = await connect_client(path)
    call = asyncio.create_task(leaving.call("s", "Work", b"", 30))
    await service.held.wait()
    await leaving.close()
    with pytest.raises(ConnectionError):
        await call
    service.release.set()
    await service.finished.wait()
    assert not service.cancelled.is_set()


async def test_a_peer_of_another_uid_is_turned_away(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "read_peer_uid", lambda _: os.geteuid() + 1)
    client = await connect_client(path)
    with pytest.raises(ConnectionError):
        await client.call("s", "Echo", b"", 30)
    await client.close()


async def test_a_client_whose_server_is_gone_says_so_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "gone")
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda _, writer: accepted.append(writer), path)
    client = await connect_client(path)
    call = asyncio.create_task(client.call("s", "Echo", b"", 30))
    while not accepted:
        await asyncio.sleep(0)
    accepted[0].transport.abort()
    with pytest.raises(ConnectionError):
        await call
    with pytest.raises(ConnectionError):
        await client.call("s", "Echo", b"", 30)
    await client.close()
    server.close()


async def test_a_sandbox_that_nobody_has_ever_called_ends(tmp_path: Path) -> None:
    """For a `start` that was killed before it could print the address."""
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    server, over = Server({}, describe), asyncio.Event()
    await server.start(listener)
    _, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(5):
        while not server.was_called:
            await asyncio.sleep(0.01)
    end_unless_called(server, over)
    assert not over.is_set()
    writer.close()
    await server.close(0)
    end_unless_called(Server({}, describe), over)
    assert over.is_set()
