"""An exec's request prepares for its start."""

from pathlib import Path

from tests.fakes.guest import FakeMachine
from tests.fakes.task_service import Harness


async def test_the_request_for_an_exec_opens_the_way_to_the_agent(tmp_path: Path) -> None:
    """Its start is the next call, and need not wait for that."""
    harness = Harness(tmp_path, FakeMachine(), "c1")
    await harness.run()
    assert harness.machine.agent.prepared == 0
    await harness.exec()
    assert harness.machine.agent.prepared == 1
    await harness.containers.close()
    harness.reaper.close()
