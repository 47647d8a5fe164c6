"""The shim's side of the connection for events: the agent is a script, which may lie."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.contract import MAX_EVENT_BYTES
from proto.frames import FrameError, frame, read_frame
from proto.gen.agent.v1 import agent_pb2 as pb
from shim.errors import GuestFault, NotFound, Unavailable
from shim.guest.events import AgentEvents
from shim.guest.values import ProcessName
from tests.hypotheses import tried

INIT, EXEC = ProcessName("c1"), ProcessName("c1", "e1")


class ScriptedAgent:
    """One connection at a time; what the client asks for comes in `asked`."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[pb.WatchProcess] = asyncio.Queue()
        self.connections = 0
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writer = writer
        try:
            while True:
                message = await read_frame(reader, MAX_EVENT_BYTES)
                self.asked.put_nowait(pb.WatchProcess.FromString(message))
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    def say(self, raw: bytes) -> None:
        assert self._writer is not None
        self._writer.write(raw)

    def tell(self, watch: int, **event: object) -> None:
        self.say(frame(pb.ProcessEvent(watch=watch, **event).SerializeToString()))  # type: ignore[arg-type]

    def tell_end(self, watch: int, status: int) -> None:
        self.tell(watch, exited=pb.ProcessExit(exit_status=status))

    def tell_kill(self, watch: int, kills: int) -> None:
        self.tell(watch, out_of_memory=pb.OutOfMemory(oom_kills=kills))

    def hang_up(self) -> None:
        assert self._writer is not None
        self._writer.transport.abort()


@asynccontextmanager
async def connected(directory: Path) -> AsyncIterator[tuple[AgentEvents, ScriptedAgent]]:
    agent = ScriptedAgent()
    path = str(directory / "events")
    async with await asyncio.start_unix_server(agent.serve, path):
        events = AgentEvents(path)
        yield events, agent
        await events.close()


def wait(events: AgentEvents, process: ProcessName) -> "asyncio.Task[int]":
    return asyncio.create_task(events.wait_exit(process))


async def test_each_wait_gets_its_own_end(tmp_path: Path) -> None:
    """Whatever their order; two waits for one process are two watches."""
    async with connected(tmp_path) as (events, agent):
        waits = [wait(events, name) for name in (INIT, EXEC, INIT)]
        asked = [await agent.asked.get() for _ in waits]
        names = [(one.process.container_id, one.process.exec_id) for one in asked]
        assert names == [("c1", ""), ("c1", "e1"), ("c1", "")]
        for number, status in ((2, 9), (0, 7), (1, 8)):
            agent.tell_end(asked[number].watch, status)
        assert await asyncio.gather(*waits) == [7, 8, 9]
        assert agent.connections == 1


async def test_nothing_is_connected_before_the_first_wait(tmp_path: Path) -> None:
    async with connected(tmp_path) as (_, agent):
        await asyncio.sleep(0.05)
        assert agent.connections == 0


async def test_what_has_no_end_yet_is_sent_again_when_the_connection_breaks(
    tmp_path: Path,
) -> None:
    """With the number of kills that were told; nothing else is."""
    async with connected(tmp_path) as (events, agent):
        kills = events.read_kills()
        ended, waiting = wait(events, EXEC), wait(events, INIT)
        first, second = [await agent.asked.get() for _ in range(2)]
        agent.tell_end(first.watch, 1)
        agent.tell_kill(second.watch, 3)
        assert await ended == 1
        assert await anext(kills) == "c1"
        agent.hang_up()
        again = await agent.asked.get()
        assert (again.process, again.oom_kills) == (second.process, 3)
        agent.tell_kill(again.watch, 4)
        assert await anext(kills) == "c1"
        agent.tell_end(again.watch, 2)
        assert await waiting == 2
        assert agent.asked.empty()
        assert agent.connections == 2


async def test_an_agent_that_is_not_there_yet_is_found_later(tmp_path: Path) -> None:
    events, agent = AgentEvents(str(tmp_path / "events")), ScriptedAgent()
    waiting = wait(events, INIT)
    await asyncio.sleep(0.05)
    async with await asyncio.start_unix_server(agent.serve, tmp_path / "events"):
        agent.tell_end((await agent.asked.get()).watch, 0)
        assert await waiting == 0
        await events.close()


async def test_a_wait_that_was_given_up_is_no_fault_of_the_agents(tmp_path: Path) -> None:
    async with connected(tmp_path) as (events, agent):
        given_up, waiting = wait(events, EXEC), wait(events, INIT)
        first, second = [await agent.asked.get() for _ in range(2)]
        given_up.cancel()
        agent.tell_end(first.watch, 1)
        agent.tell_end(second.watch, 2)
        assert await waiting == 2
        assert given_up.cancelled()


async def test_a_process_that_there_is_not(tmp_path: Path) -> None:
    async with connected(tmp_path) as (events, agent):
        waiting = wait(events, INIT)
        agent.tell((await agent.asked.get()).watch, not_found="no\x1b[2J" + "x" * 3000)
        with pytest.raises(NotFound, match="no \\[2J") as caught:
            await waiting
        assert len(str(caught.value)) < 1200


async def test_closing_ends_the_waits(tmp_path: Path) -> None:
    async with connected(tmp_path) as (events, agent):
        waiting = wait(events, INIT)
        await agent.asked.get()
        await events.close()
        with pytest.raises(Unavailable, match="was closed"):
            await waiting
        with pytest.raises(Unavailable, match="was closed"):
            await events.wait_exit(INIT)


Lie = Callable[[ScriptedAgent, int], None]
LIES: dict[str, tuple[Lie, str]] = {
    "no message": (lambda agent, _: agent.say(frame(b"\xff" * 64)), "Error parsing"),
    "no event": (lambda agent, watch: agent.tell(watch), "no kind that we know"),
    "too long": (lambda agent, _: agent.say(b"\x7f\xff\xff\xff"), "a message of 2147483647"),
    "no such watch": (lambda agent, watch: agent.tell_end(watch + 1, 0), "which is not open"),
    "no such status": (lambda agent, watch: agent.tell_end(watch, 256), "exit status 256"),
    "kills that were told": (lambda agent, watch: agent.tell_kill(watch, 0), "0 kills after 0"),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_false_event_is_the_guests_fault(tmp_path: Path, name: str) -> None:
    """The next wait finds an agent that may tell the truth."""
    lie, text = LIES[name]
    async with connected(tmp_path) as (events, agent):
        waiting = wait(events, INIT)
        lie(agent, (await agent.asked.get()).watch)
        with pytest.raises(GuestFault, match=text):
            await waiting
        waiting = wait(events, INIT)
        agent.tell_end((await agent.asked.get()).watch, 5)
        assert await waiting == 5


async def test_an_end_that_is_told_twice_ends_the_connection(tmp_path: Path) -> None:
    async with connected(tmp_path) as (events, agent):
        waiting, other = wait(events, INIT), wait(events, EXEC)
        first, _ = [await agent.asked.get() for _ in range(2)]
        agent.tell_end(first.watch, 1)
        agent.tell_end(first.watch, 2)
        assert await waiting == 1
        with pytest.raises(GuestFault, match="which is not open"):
            await other


async def test_a_flood_of_kills_stops_the_guest_and_not_the_shim(tmp_path: Path) -> None:
    async with connected(tmp_path) as (events, agent):
        kills = events.read_kills()
        waiting = wait(events, INIT)
        watch = (await agent.asked.get()).watch
        agent.tell_kill(watch, 1)
        assert await anext(kills) == "c1"
        for number in range(2, 1000):
            agent.tell_kill(watch, number)
        await asyncio.sleep(0.05)
        assert events._kills.qsize() < 50
        for _ in range(2, 1000):
            assert await anext(kills) == "c1"
        agent.tell_end(watch, 0)
        assert await waiting == 0


async def test_kills_that_nobody_reads_hold_nothing_up(tmp_path: Path) -> None:
    async with connected(tmp_path) as (events, agent):
        waiting = wait(events, INIT)
        watch = (await agent.asked.get()).watch
        for number in range(1, 100):
            agent.tell_kill(watch, number)
        agent.tell_end(watch, 0)
        assert await waiting == 0


# --- frames ---------------------------------------------------------------------------


def feed(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@tried
@given(st.lists(st.binary(max_size=300)))
async def test_messages_are_read_as_they_were_sent(messages: list[bytes]) -> None:
    reader = feed(b"".join(map(frame, messages)))
    assert [await read_frame(reader, 300) for _ in messages] == messages
    with pytest.raises(asyncio.IncompleteReadError):
        await read_frame(reader, 300)


@tried
@given(st.binary(max_size=40), st.integers(0, 20))
async def test_no_message_is_longer_than_allowed(data: bytes, limit: int) -> None:
    with suppress(FrameError, asyncio.IncompleteReadError):
        assert len(await read_frame(feed(data), limit)) <= limit
