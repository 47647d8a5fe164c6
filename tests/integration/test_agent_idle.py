"""gRPC is awake only while it is used, and no call or end is lost or doubled by that.

The real agent and the shim's client.  Times are short, so that calls come at every
moment of closing and opening.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.server import LATER_S
from benchmarks.usage import count_sleeps
from proto.gen.agent.v1 import agent_pb2 as pb
from shim.errors import NotFound
from shim.guest.client import AgentClient
from shim.guest.values import ProcessName, StdioTokens
from tests.hypotheses import ROUNDS
from tests.integration.agent_run import (
    DEADLINE_S,
    TREE,
    Agent,
    process_document,
    running,
    spec_document,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.leaks(reason="the tests' own client, of plain gRPC, keeps its poller"),
]
WATCHED_S = 3
MAX_WAKEUPS = 6
"""In WATCHED_S, of both sides together.  With gRPC awake there are more than 30."""
IDLE_S = 0.03


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("agent")
    with Agent(directory, "--linger", str(IDLE_S)) as agent:
        agent.channel.close()
        yield agent
        assert agent.complaints() == ""


def list_threads(pid: int) -> list[str]:
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return names


def wait_one_thread(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(names := list_threads(pid)) > 1:
        assert time.monotonic() < deadline, names
        time.sleep(0.01)


def refuse(agent: Agent) -> None:
    with pytest.raises(grpc.RpcError, match="nobody"):
        agent.stub.GetStats(pb.ContainerRef(container_id="nobody"))


def count_wakeups(*pids: int) -> int:
    before = count_sleeps(frozenset(pids))
    time.sleep(WATCHED_S)
    return count_sleeps(frozenset(pids)) - before


# --- quiet ----------------------------------------------------------------------------


def test_idle_no_thread_of_grpc_is_left_and_an_end_is_told(tmp_path: Path) -> None:
    """Neither side wakes; a call between opens both sides, which then end again.  Also when
    the agent has frozen its objects while the server was in use, and refused calls."""
    with Agent(tmp_path) as agent:
        task = running(agent, ["sleep", "1000"])
        init = task.pids()[0]
        refuse(agent)
        time.sleep(LATER_S)
        refuse(agent)
        agent.channel.close()
        command = [sys.executable, "-m", "tests.integration.idle_client"]
        command += [agent.relay_path, agent.events_path, task.container_id]
        with subprocess.Popen(
            command, cwd=TREE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            for _ in range(2):
                assert client.stdout.readline() == "idle\n"
                for pid in (agent.process.pid, client.pid):
                    wait_one_thread(pid)
                assert count_wakeups(agent.process.pid, client.pid) <= MAX_WAKEUPS
                client.stdin.write("call\n")
                client.stdin.flush()
                assert client.stdout.readline() == "answered\n"
            assert client.stdout.readline() == "idle\n"
            os.kill(init, signal.SIGKILL)
            assert client.stdout.readline() == "137 closed\n"
        task.close()


# --- nothing is lost ------------------------------------------------------------------


class Cable:
    """The way of the events to the agent, which can be cut."""

    def __init__(self, path: Path, agent: Agent) -> None:
        self.path = path
        self._agent = agent
        self._writers: set[asyncio.StreamWriter] = set()
        self._joints: set[asyncio.Future[None]] = set()

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._join, self.path)

    def cut(self) -> None:
        """At once; what is under way is lost."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self.cut()
        await asyncio.gather(*self._joints)
        await asyncio.sleep(0)  # until the transports have closed their sockets

    def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._joints.add(asyncio.ensure_future(self._carry_both(reader, writer)))

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far_reader, far_writer = await asyncio.open_unix_connection(self._agent.events_path)
        self._writers.add(far_writer)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
    except OSError:
        pass
    writer.transport.abort()


class Work:
    """Calls to one container, none of which may be lost or happen twice."""

    numbers = count()

    def __init__(self, agent: Agent, client: AgentClient, cable: Cable) -> None:
        self._agent = agent
        self._client = client
        self._cable = cable
        self.container_id = agent.make_id()

    async def begin(self) -> None:
        process = process_document(["sleep", "1000"])
        spec = spec_document(self._agent.rootfs, process, self.container_id)
        document = json.dumps(spec).encode()
        await self._client.create_container(self.container_id, document, StdioTokens(False))
        await self._client.start_process(ProcessName(self.container_id))

    async def end(self) -> None:
        init = ProcessName(self.container_id)
        waiting = asyncio.create_task(self._client.wait_process(init))
        await self._client.signal_process(init, 9, everyone=False)
        assert await waiting == 137
        await self._client.delete_process(init)

    async def do(self, step: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        if step == "cut":
            self._cable.cut()
        elif step == "read":
            assert await self._client.read_clock() is not None
        else:
            await self._run(pause_s)

    async def _run(self, pause_s: float) -> None:
        """A doubled call of add or delete would be refused."""
        number = next(self.numbers)
        name = ProcessName(self.container_id, f"e{number}")
        status = number % 256
        document = json.dumps(process_document(["sh", "-c", f"exit {status}"])).encode()
        await self._client.add_exec(name, document, StdioTokens(False))
        waiting = asyncio.create_task(self._client.wait_process(name))
        await asyncio.sleep(pause_s)
        await self._client.start_process(name)
        await asyncio.sleep(pause_s)
        assert await asyncio.wait_for(waiting, DEADLINE_S) == status
        await self._client.delete_process(name)
        with pytest.raises(NotFound):
            await self._client.delete_process(name)


@asynccontextmanager
async def working(agent: Agent, directory: Path) -> AsyncIterator[tuple[AgentClient, Work]]:
    cable = Cable(directory / "cable", agent)
    async with await cable.serve():
        client = AgentClient(agent.relay_path, str(cable.path))
        work = Work(agent, client, cable)
        await work.begin()
        yield client, work
        await work.end()
        await client.close()
        await cable.close()


STEP = st.tuples(
    st.sampled_from(("run", "run", "read", "read", "cut")),
    st.one_of(
        st.floats(0, 3 * IDLE_S),
        # Close to the moment at which the channel or the server is closed.
        st.floats(0.95 * IDLE_S, 1.05 * IDLE_S),
        st.floats(1.95 * IDLE_S, 2.1 * IDLE_S),
    ),
)


@pytest.mark.timeout(300)
@settings(
    max_examples=int(ROUNDS or 10),
    derandomize=ROUNDS is None,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(STEP, min_size=1, max_size=6), min_size=1, max_size=3))
async def test_no_call_and_no_end_is_lost_or_doubled(
    agent: Agent, tmp_path_factory: pytest.TempPathFactory, plans: list[list[tuple[str, float]]]
) -> None:
    """Whenever they come; also when the connection for events is cut meanwhile."""

    async def follow(work: Work, plan: list[tuple[str, float]]) -> None:
        for step, pause_s in plan:
            await work.do(step, pause_s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shim.guest.channel.IDLE_S", IDLE_S)
        patch.setattr("shim.guest.events.RECONNECT_S", 0)
        async with working(agent, tmp_path_factory.mktemp("cable")) as (client, work):
            await asyncio.gather(*(follow(work, plan) for plan in plans))
            while client.is_open:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(wait_one_thread, agent.process.pid)


async def test_what_was_prepared_is_open_and_rests_again(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.guest.channel.IDLE_S", IDLE_S)
    client = AgentClient(agent.relay_path, agent.events_path)
    assert await client.read_clock() is not None
    for _ in range(2):
        while client.is_open:
            await asyncio.sleep(0.001)
        client.prepare()
        assert client.is_open
    await client.close()
    client.prepare()
    assert not client.is_open


async def test_fifty_rests_leave_nothing(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shim.guest.channel.IDLE_S", 0.001)
    client = AgentClient(agent.relay_path, agent.events_path)
    held = []
    for _ in range(50):
        assert await client.read_clock() is not None
        while client.is_open:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(wait_one_thread, agent.process.pid)
        held.append(len(os.listdir(f"/proc/{agent.process.pid}/fd")))
    await client.close()
    assert held[-1] == held[0]
