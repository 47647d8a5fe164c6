"""The shim's client of the agent, with the agent itself at the other end."""

import asyncio
from collections.abc import Iterator

import pytest

from shim.errors import Unavailable
from shim.guest.client import AgentClient
from tests.integration.agent_run import Agent

pytestmark = [
    pytest.mark.integration,
    pytest.mark.leaks(reason="gRPC keeps its poller until a later garbage collection"),
]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as agent:
        asyncio.run(greet(agent))  # what gRPC keeps from here on is no leak
        yield agent


async def greet(agent: Agent) -> None:
    client = AgentClient(agent.relay_path, agent.events_path)
    await client.wait_info()
    await client.close()


def test_what_is_under_way_when_the_client_is_closed_is_told_so(agent: Agent) -> None:
    """An error, not a cancellation that the caller has not requested and that nobody sees."""

    async def close_meanwhile() -> None:
        client = AgentClient(agent.relay_path, agent.events_path)
        await client.wait_info()
        watching = asyncio.create_task(watch(client))
        await asyncio.sleep(0.2)
        reading = asyncio.create_task(client.read_clock())
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Unavailable, match="was closed"):
            await reading
        watching.cancel()

    asyncio.run(close_meanwhile())


async def watch(client: AgentClient) -> None:
    async for _ in client.watch_oom_kills():
        pass


def test_who_is_cancelled_himself_stays_so(agent: Agent) -> None:
    async def cancel_one() -> None:
        client = AgentClient(agent.relay_path, agent.events_path)
        await client.wait_info()
        reading = asyncio.create_task(client.read_clock())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await client.close()

    asyncio.run(cancel_one())
