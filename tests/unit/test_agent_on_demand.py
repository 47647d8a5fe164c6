"""The agent's server runs while it has users; whatever comes first, none finds it stopped."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from agent.on_demand import OnDemand
from tests.hypotheses import tried


class SlowServer:
    """Takes several steps of the loop to start and to stop."""

    def __init__(self, steps: int = 3) -> None:
        self.running = False
        self.changes: list[str] = []
        self._steps = steps
        self._changing = False

    async def start(self) -> None:
        assert not self.running
        await self._change("start")
        self.running = True

    async def stop(self) -> None:
        assert self.running
        self.running = False
        await self._change("stop")

    async def _change(self, name: str) -> None:
        assert not self._changing, "a start in the middle of a stop, or the other way round"
        self._changing = True
        self.changes.append(name)
        for _ in range(self._steps):
            await asyncio.sleep(0)
        self._changing = False


def make(server: SlowServer, linger_s: float = 0) -> tuple[OnDemand, list[None]]:
    ends: list[None] = []
    return OnDemand(server, lambda: ends.append(None), linger_s), ends


async def wait_stopped(server: SlowServer) -> None:
    while server.running or server.changes[-1:] != ["stop"]:
        await asyncio.sleep(0)


async def test_it_runs_for_its_users_and_no_longer() -> None:
    server = SlowServer()
    demand, ends = make(server)
    for _ in range(2):
        demand.enter()
    await demand.start()
    assert demand.is_running
    demand.leave()
    await asyncio.sleep(0.01)
    assert server.running
    assert ends == []
    demand.leave()
    await wait_stopped(server)
    assert server.changes == ["start", "stop"]
    assert ends == [None]


async def test_who_enters_at_the_last_moment_keeps_it() -> None:
    """Between the end of the time and the stop."""
    server = SlowServer()
    demand, _ = make(server)
    demand.enter()
    await demand.start()
    demand.leave()
    demand._begin_stop()
    demand.enter()
    assert demand.is_running
    await asyncio.sleep(0.01)
    assert server.changes == ["start"]


async def test_who_enters_during_a_stop_gets_a_new_one() -> None:
    server = SlowServer()
    demand, _ = make(server)
    demand.enter()
    await demand.start()
    demand.leave()
    while server.changes[-1] != "stop":
        await asyncio.sleep(0)
    demand.enter()
    assert not demand.is_running
    await demand.start()
    assert server.running
    assert server.changes == ["start", "stop", "start"]


async def test_who_comes_soon_finds_it() -> None:
    server = SlowServer()
    demand, _ = make(server, linger_s=60)
    demand.enter()
    await demand.start()
    demand.leave()
    await asyncio.sleep(0.01)
    demand.enter()
    assert demand.is_running
    demand.leave()
    await demand.close()
    assert server.changes == ["start", "stop"]


@tried
@given(st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=6), min_size=1, max_size=4))
async def test_no_user_finds_it_stopped(users: list[list[int]]) -> None:
    """Each waits for some steps of the loop, uses it for as many, and so on."""
    server = SlowServer()
    demand, _ = make(server)

    async def use(waits: list[int]) -> None:
        for steps in waits:
            for _ in range(steps):
                await asyncio.sleep(0)
            demand.enter()
            if not demand.is_running:
                await demand.start()
            for _ in range(steps + 1):
                assert server.running
                await asyncio.sleep(0)
            demand.leave()

    await asyncio.gather(*map(use, users))
    await wait_stopped(server)
    await demand.close()
