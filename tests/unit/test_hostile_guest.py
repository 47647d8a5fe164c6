"""A guest that has been taken over: it ignores requests, reports what is impossible, and
floods."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proto.gen.containerd import cgroups_v1_pb2, cgroups_v2_pb2
from shim.containerd.stats import NO_LIMIT, build_metrics_v1, build_metrics_v2
from shim.errors import GuestFault, SampanError, Unavailable
from shim.guest.values import ProcessName
from shim.sandbox.oom_limit import INTERVAL_S, OomLimit
from tests.fakes.guest import FakeMachine
from tests.fakes.task_service import Harness

INIT = ProcessName("c1")


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path, FakeMachine(), "c1")
    yield harness
    await harness.close()


def test_a_container_has_one_event_a_second() -> None:
    limit = OomLimit()
    assert [limit.allows("a", False, now / 10) for now in range(21)].count(True) == 3
    assert limit.allows("b", False, 0.1)


def test_a_container_that_has_ended_has_one_more() -> None:
    limit = OomLimit()
    assert limit.allows("a", False, 0)
    assert [limit.allows("a", True, INTERVAL_S * n) for n in range(1, 9)] == [True] + [False] * 7
    limit.forget("a")  # deleted, and its id belongs to another one
    assert limit.allows("a", False, 9)
    assert limit.allows("a", True, 10)


async def test_events_without_end_do_not_reach_containerd(harness: Harness) -> None:
    await harness.run()
    watching = asyncio.create_task(harness.containers.watch_oom_kills())
    kills = harness.machine.agent.oom_kills
    for _ in range(5000):
        kills.put_nowait("c1")
        kills.put_nowait("nobody")
    await asyncio.sleep(0.5)
    assert harness.publisher.topics.count("oom") == 1
    assert kills.qsize() > 9900  # read slowly: the guest's end is soon full, and it waits
    watching.cancel()


async def test_events_of_a_container_that_has_ended_are_few(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.sandbox.oom_limit.INTERVAL_S", 0)
    await harness.run()
    watching = asyncio.create_task(harness.containers.watch_oom_kills())
    harness.machine.agent.end(INIT, 137)
    harness.machine.drain()
    await harness.call("Wait", id="c1")
    for _ in range(20):
        harness.machine.agent.oom_kills.put_nowait("c1")
    await asyncio.sleep(0.3)
    assert harness.publisher.topics.count("oom") == 1
    watching.cancel()


async def test_a_container_that_does_not_obey_sigkill_ends_with_its_machine(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.sandbox.container.KILL_TIMEOUT_S", 0.1)
    harness.machine.agent.obeys = False
    await harness.run()
    await harness.call("Kill", id="c1", signal=15)
    await asyncio.sleep(0.2)
    assert not harness.machine.ended.done()
    await harness.call("Kill", id="c1", signal=9)
    waited = await asyncio.wait_for(harness.call("Wait", id="c1"), 20)
    assert waited.exit_status == 137
    reason = harness.machine.ended.result().reason
    assert reason == "container 'c1' did not end within 0.1 s of SIGKILL"


async def test_a_container_that_obeys_leaves_the_machine_alone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.sandbox.container.KILL_TIMEOUT_S", 0.1)
    given_up: list[str] = []
    monkeypatch.setattr(harness.machine, "give_up", given_up.append)
    await harness.run()
    await harness.call("Kill", id="c1", signal=9)
    harness.machine.drain()
    await harness.call("Wait", id="c1")
    await asyncio.sleep(0.2)
    assert given_up == []


@pytest.mark.parametrize(
    ("error", "is_told"),
    [(GuestFault("exit status 256 is not"), True), (Unavailable("connection refused"), False)],
)
async def test_an_agent_that_does_not_tell_of_an_end_is_logged_once(
    harness: Harness,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: SampanError,
    is_told: bool,
) -> None:
    """An invalid answer is final; an agent that cannot be reached may be reached
    later."""
    monkeypatch.setattr("shim.sandbox.process.RECONNECT_TIMEOUT_S", 0.01)

    async def lie(process: ProcessName) -> int:
        raise error

    monkeypatch.setattr(harness.machine.agent, "wait_process", lie)
    await harness.run()
    waiting = asyncio.create_task(harness.call("Wait", id="c1"))
    await asyncio.sleep(0.3)
    assert [str(error) in record.getMessage() for record in caplog.records] == [True]
    assert waiting.done() == is_told
    if is_told:
        assert (await waiting).exit_status == 255
    waiting.cancel()


def test_figures_that_cannot_be_are_figures_that_containerd_takes() -> None:
    worst = {"": NO_LIMIT, **dict.fromkeys(("usage_usec", "user_usec", "system_usec"), NO_LIMIT)}
    worst |= dict.fromkeys(("throttled_usec", "nr_periods", "anon", "max", "oom_kill"), NO_LIMIT)
    names = ("cpu.stat", "memory.stat", "memory.events", "memory.current", "pids.current")
    files = dict.fromkeys((*names, "../../etc/passwd", "\x1b[2J"), worst)
    v1, v2 = build_metrics_v1(files), build_metrics_v2(files)
    assert v1.cpu.usage.total == v1.cpu.throttling.throttled_time == NO_LIMIT
    assert v2.cpu.usage_usec == v2.memory.usage == NO_LIMIT
    assert isinstance(v1, cgroups_v1_pb2.Metrics)
    assert isinstance(v2, cgroups_v2_pb2.Metrics)
