"""When hooks run on the host in a container's life, and what their failures do."""

import errno
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shim.errors import HostResource, NotFound
from shim.guest.values import ProcessName
from shim.host.program import Program, ProgramEnd
from tests.fakes.guest import PID, FakeMachine
from tests.fakes.task_service import FakeFiles, Harness

INIT = ProcessName("c1")
ALL = {
    "prestart": [{"path": "/prestart", "timeout": 3}],
    "createRuntime": [{"path": "/createRuntime"}],
    "poststart": [{"path": "/poststart"}],
    "poststop": [{"path": "/poststop"}, {"path": "/last"}],
}


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path, FakeMachine(), "c1")
    harness.write_spec(hooks=ALL)
    yield harness
    await harness.close()


def ran(harness: Harness) -> list[str]:
    return [program.path for program in harness.programs.ran]


def states(harness: Harness) -> dict[str, Any]:
    return {program.path: json.loads(program.stdin) for program in harness.programs.ran}


async def test_each_hook_runs_at_its_point_with_the_state_of_that_time(harness: Harness) -> None:
    agent, seen = harness.machine.agent, {}

    def note(program: Program) -> None:
        seen[program.path] = [call[0] for call in agent.calls]

    harness.programs.on_run = note
    await harness.create()
    assert ran(harness) == ["/prestart", "/createRuntime"]
    assert seen["/createRuntime"] == []  # the guest is not asked for a container before
    assert harness.machine.network.joins == 0  # the network is read later
    await harness.call("Start", id="c1")
    assert ran(harness)[2:] == ["/poststart"]
    assert seen["/poststart"] == ["create", "start"]
    harness.end(INIT, 0)
    await harness.call("Wait", id="c1")
    assert ran(harness)[3:] == []
    await harness.call("Delete", id="c1")
    assert ran(harness)[3:] == ["/poststop", "/last"]
    described = states(harness)
    assert [(s["status"], s.get("pid")) for s in described.values()] == [
        ("creating", PID),
        ("creating", PID),
        ("running", PID),
        ("stopped", None),
        ("stopped", None),
    ]
    assert {s["bundle"] for s in described.values()} == {str(harness.bundle)}
    assert [program.timeout_s for program in harness.programs.ran] == [3, None, None, None, None]


async def test_a_create_hook_that_fails_is_the_error_and_nothing_is_left(harness: Harness) -> None:
    harness.programs.ends["/prestart"] = ProgramEnd(1, "no such bridge")
    with pytest.raises(HostResource) as told:
        await harness.create()
    expected = "hooks.prestart[0]: /prestart: ended with status 1: no such bridge"
    assert str(told.value) == expected
    assert ran(harness) == ["/prestart", "/poststop", "/last"]
    assert FakeFiles.mounted == []
    assert harness.machine.agent.calls == []


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (ProgramEnd(-9, "", timed_out=True), "killed after its timeout of 3 s$"),
        (ProgramEnd(-11, ""), "ended with signal 11$"),
        (OSError(errno.ENOENT, "No such file or directory"), "No such file or directory$"),
    ],
)
async def test_every_way_of_failing_is_named(
    harness: Harness, end: ProgramEnd | OSError, text: str
) -> None:
    harness.programs.ends["/prestart"] = end
    with pytest.raises(HostResource, match=rf"hooks.prestart\[0\]: /prestart: {text}"):
        await harness.create()


async def test_a_poststart_hook_that_fails_ends_the_container(harness: Harness) -> None:
    harness.programs.ends["/poststart"] = ProgramEnd(2, "")
    await harness.create()
    with pytest.raises(
        HostResource, match=r"hooks.poststart\[0\]: /poststart: ended with status 2"
    ):
        await harness.call("Start", id="c1")
    assert (await harness.call("Wait", id="c1")).exit_status == 137
    assert (await harness.call("Delete", id="c1")).exit_status == 137
    assert harness.publisher.topics == ["create", "start", "exit", "delete"]


async def test_a_poststart_hook_that_fails_is_told_though_the_program_has_ended(
    harness: Harness,
) -> None:
    harness.programs.ends["/poststart"] = ProgramEnd(2, "")
    await harness.create()
    harness.machine.agent.signal_error = NotFound("process already finished")
    with pytest.raises(HostResource, match=r"hooks.poststart\[0\]"):
        await harness.call("Start", id="c1")
    harness.end(INIT, 0)


async def test_a_poststop_hook_that_fails_stops_neither_the_others_nor_the_delete(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.programs.ends["/poststop"] = ProgramEnd(1, "busy")
    await harness.run()
    harness.end(INIT, 0)
    await harness.call("Wait", id="c1")
    await harness.call("Delete", id="c1")
    assert ran(harness)[-2:] == ["/poststop", "/last"]
    assert "hooks.poststop[0]: /poststop: ended with status 1: busy" in caplog.text


async def test_a_create_that_fails_in_the_guest_runs_poststop_once(harness: Harness) -> None:
    harness.machine.agent.create_error = HostResource("no room")
    with pytest.raises(HostResource, match="no room"):
        await harness.create()
    await harness.containers.close()
    assert ran(harness) == ["/prestart", "/createRuntime", "/poststop", "/last"]


async def test_containers_that_are_left_at_the_end_have_their_poststop_run(
    harness: Harness,
) -> None:
    await harness.run()
    await harness.containers.close()
    assert ran(harness)[-2:] == ["/poststop", "/last"]
