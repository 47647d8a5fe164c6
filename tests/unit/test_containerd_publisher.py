"""The publisher: order, envelope rules, and a containerd that stops and starts again."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proto.gen.containerd import events_pb2
from shim.containerd import publisher as publisher_module
from shim.containerd.messages import pack_any
from shim.containerd.publisher import METHOD, SERVICE, Publisher
from shim.ttrpc.server import Method, Server
from shim.ttrpc.status import Code, StatusError


class FakeContainerd:
    """An events service at `path` that can be stopped and started again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.envelopes: list[tuple[str, str]] = []
        self.requests: list[events_pb2.ForwardRequest] = []
        self.refuse = 0
        self.refusal = Code.INVALID_ARGUMENT
        self.arrived = asyncio.Condition()
        self._server: Server | None = None

    async def up(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        self._server = Server({SERVICE: {METHOD: Method(self._forward)}}, self._describe)
        await self._server.start(listener)

    async def down(self) -> None:
        assert self._server is not None
        await self._server.close(1)
        self.path.unlink(missing_ok=True)  # from Python 3.13 on asyncio does it

    async def wait_for(self, count: int) -> None:
        async with self.arrived, asyncio.timeout(20):
            await self.arrived.wait_for(lambda: len(self.requests) >= count)

    @property
    def ids(self) -> list[str]:
        return [
            events_pb2.TaskStart.FromString(r.envelope.event.value).container_id
            for r in self.requests
        ]

    async def _forward(self, payload: bytes) -> bytes:
        if self.refuse:
            self.refuse -= 1
            raise StatusError(self.refusal, "no")
        async with self.arrived:
            self.requests.append(events_pb2.ForwardRequest.FromString(payload))
            self.arrived.notify_all()
        return b""

    @staticmethod
    def _describe(error: BaseException) -> StatusError:
        return error if isinstance(error, StatusError) else StatusError(Code.UNKNOWN, str(error))


@pytest.fixture
async def containerd(tmp_path: Path) -> AsyncIterator[FakeContainerd]:
    fake = FakeContainerd(tmp_path / "events.sock")
    await fake.up()
    yield fake
    await fake.down()
    await asyncio.sleep(0)


@pytest.fixture
async def publisher(
    containerd: FakeContainerd, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Publisher]:
    monkeypatch.setattr(publisher_module, "RETRY_FIRST_S", 0.01)
    publisher = Publisher(str(containerd.path), "ns")
    publisher.start()
    yield publisher
    await publisher.close(10)


def start_event(name: str) -> events_pb2.TaskStart:
    return events_pb2.TaskStart(container_id=name, pid=1)


async def test_an_envelope_is_as_containerd_demands(
    containerd: FakeContainerd, publisher: Publisher
) -> None:
    publisher.publish("/tasks/start", start_event("c"))
    await containerd.wait_for(1)
    envelope = containerd.requests[0].envelope
    assert (envelope.namespace, envelope.topic) == ("ns", "/tasks/start")
    assert envelope.timestamp.seconds > 0
    assert envelope.event.type_url == "containerd.events.TaskStart"


async def test_events_arrive_in_the_order_of_their_publishing(
    containerd: FakeContainerd, publisher: Publisher
) -> None:
    names = [str(number) for number in range(100)]
    for name in names:
        publisher.publish("/tasks/start", start_event(name))
    await containerd.wait_for(100)
    assert containerd.ids == names


async def test_what_happens_while_containerd_is_away_is_told_when_it_is_back(
    containerd: FakeContainerd, publisher: Publisher
) -> None:
    publisher.publish("/tasks/start", start_event("before"))
    await containerd.wait_for(1)
    await containerd.down()
    publisher.publish("/tasks/start", start_event("while"))
    publisher.publish("/tasks/start", start_event("still"))
    await asyncio.sleep(0.05)
    await containerd.up()
    await containerd.wait_for(3)
    assert containerd.ids == ["before", "while", "still"]


async def test_a_hopeless_event_does_not_hold_up_the_next(
    containerd: FakeContainerd, publisher: Publisher
) -> None:
    containerd.refuse = 1
    publisher.publish("/tasks/start", start_event("bad"))
    publisher.publish("/tasks/start", start_event("good"))
    await containerd.wait_for(1)
    assert containerd.ids == ["good"]


async def test_an_event_that_was_refused_for_the_moment_is_sent_again(
    containerd: FakeContainerd, publisher: Publisher
) -> None:
    containerd.refuse, containerd.refusal = 3, Code.UNAVAILABLE
    publisher.publish("/tasks/start", start_event("a"))
    publisher.publish("/tasks/start", start_event("b"))
    await containerd.wait_for(2)
    assert containerd.ids == ["a", "b"]


async def test_close_waits_until_everything_was_reported(containerd: FakeContainerd) -> None:
    publisher = Publisher(str(containerd.path), "ns")
    publisher.start()
    for number in range(20):
        publisher.publish("/tasks/start", start_event(str(number)))
    await publisher.close(10)
    assert len(containerd.requests) == 20


async def test_close_does_not_wait_for_ever(tmp_path: Path) -> None:
    publisher = Publisher(str(tmp_path / "nobody"), "ns")
    publisher.start()
    publisher.publish("/tasks/start", start_event("lost"))
    await publisher.close(0.05)


async def test_a_queue_that_grows_too_long_loses_its_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "MAX_WAITING", 3)
    publisher = Publisher(str(tmp_path / "nobody"), "ns")
    publisher.start()
    for number in range(5):
        publisher.publish("/tasks/start", start_event(str(number)))
    assert len(publisher._waiting) == 3
    await publisher.close(0)


def test_type_urls_have_no_prefix() -> None:
    assert pack_any(start_event("c")).type_url == "containerd.events.TaskStart"
