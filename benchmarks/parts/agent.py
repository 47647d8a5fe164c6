"""The agent's part: its calls, answered by the agent as a process of this machine."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from proto.gen.agent.v1 import agent_pb2 as pb
from tests.integration.agent_run import Agent, create

Result = TypeVar("Result")


def measure_agent(place: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds: `true` is created, started, awaited and deleted."""
    names = ("an empty call", "CreateContainer", "StartProcess", "its end", "DeleteProcess")
    taken: dict[str, list[float]] = {f"agent: {name}, ms": [] for name in names}
    directory = place / "agent"
    directory.mkdir()
    with Agent(directory) as agent:
        for number in range(-2, rounds):  # the first two are not counted
            spent = time_one(agent)
            if number >= 0:
                for values, value in zip(taken.values(), spent, strict=True):
                    values.append(value)
    return taken


def time_one(agent: Agent) -> list[float]:
    """Of each call, in the order of the names."""
    empty, _ = timed(lambda: agent.stub.GetInfo(pb.GetInfoRequest()))
    created, task = timed(lambda: create(agent, ["true"]))
    spent = [empty, created, *(timed(call)[0] for call in (task.start, task.wait, task.delete))]
    task.close()
    agent.tasks.clear()
    return spent


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """Milliseconds, and what it answers."""
    begun = time.perf_counter()
    result = call()
    return (time.perf_counter() - begun) * 1000, result
