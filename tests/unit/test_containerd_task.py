"""The Task service over a guest in memory: states, order of events, errors, the machine's end.

Rules: docs of containerd's runtime v2 (core/runtime/v2) and its integration tests.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from proto.gen.containerd import cgroups_v1_pb2, cgroups_v2_pb2, runc_pb2, types_pb2
from shim.containerd.task import SERVICES
from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    GuestFault,
    HostResource,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unimplemented,
)
from shim.guest.values import ProcessName
from tests.fakes.guest import PID, FakeMachine
from tests.fakes.task_service import REQUESTS, FakeFiles, Harness

INIT = ProcessName("c1")
EXEC = ProcessName("c1", "e1")


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path, FakeMachine(), "c1")
    yield harness
    await harness.close()


@pytest.fixture
async def pod(tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(tmp_path, FakeMachine(), "pod")
    yield harness
    await harness.close()


def test_both_versions_have_every_method(tmp_path: Path) -> None:
    async def check() -> None:
        harness = Harness(tmp_path, FakeMachine(), "c1")
        described = harness.service.describe()
        assert set(described) == {"containerd.task.v2.Task", "containerd.task.v3.Task"}
        assert set(described[SERVICES[1]]) == set(REQUESTS)
        harness.reaper.close()

    asyncio.run(check())


async def test_a_life_from_create_to_delete(harness: Harness) -> None:
    created = await harness.create()
    assert created.pid == PID
    assert await harness.status() == types_pb2.CREATED
    assert (await harness.call("Start", id="c1")).pid == PID
    assert await harness.status() == types_pb2.RUNNING
    harness.end(INIT, 7)
    waited = await harness.call("Wait", id="c1")
    state = await harness.call("State", id="c1")
    deleted = await harness.call("Delete", id="c1")
    assert [waited.exit_status, state.exit_status, deleted.exit_status] == [7, 7, 7]
    assert state.status == types_pb2.STOPPED
    assert waited.exited_at == state.exited_at == deleted.exited_at
    assert waited.exited_at.seconds > 0
    assert harness.publisher.topics == ["create", "start", "exit", "delete"]
    assert harness.publisher.events[2][1].id == "c1"
    assert harness.publisher.events[2][1].exited_at == waited.exited_at
    assert FakeFiles.mounted == []
    assert harness.machine.stopped
    # The guest ends with its last container: it is not asked to delete anything.
    assert ("delete", INIT) not in harness.machine.agent.calls


async def test_after_delete_everything_but_connect_and_shutdown_is_not_found(
    harness: Harness,
) -> None:
    await harness.run()
    harness.end(INIT, 0)
    await harness.call("Wait", id="c1")
    await harness.call("Delete", id="c1")
    for method in set(REQUESTS) - {"Create", "Connect", "Shutdown", "Checkpoint"}:
        fields = {"exec_id": "e1"} if method == "Exec" else {}
        with pytest.raises(NotFound, match="container 'c1' does not exist"):
            await harness.call(method, id="c1", **fields)
    await harness.call("Connect", id="c1")
    await harness.call("Shutdown", id="c1")
    assert harness.over


async def test_connect_tells_the_pid_that_containerd_keeps(harness: Harness) -> None:
    answer = await harness.call("Connect", id="unknown")
    assert (answer.shim_pid, answer.task_pid) == (os.getpid(), PID)


async def test_pids_of_a_live_task_are_never_none(harness: Harness) -> None:
    await harness.run()
    await harness.exec()
    await harness.call("Start", id="c1", exec_id="e1")
    answer = await harness.call("Pids", id="c1")
    assert [process.pid for process in answer.processes] == [PID, PID]
    info = answer.processes[1].info
    assert info.type_url == "containerd.runc.v1.ProcessDetails"
    assert runc_pb2.ProcessDetails.FromString(info.value).exec_id == "e1"


async def test_wait_before_start_blocks_and_every_waiter_is_answered(harness: Harness) -> None:
    await harness.create()
    waits = [asyncio.create_task(harness.call("Wait", id="c1")) for _ in range(3)]
    await harness.call("Start", id="c1")
    assert not any(wait.done() for wait in waits)
    harness.end(INIT, 3)
    assert [answer.exit_status for answer in await asyncio.gather(*waits)] == [3, 3, 3]


async def test_exit_is_told_only_after_the_output_has_reached_its_reader(
    harness: Harness, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "out")
    await harness.create(stdout=str(tmp_path / "out"))
    await harness.call("Start", id="c1")
    wait = asyncio.create_task(harness.call("Wait", id="c1"))
    harness.end(INIT, 0)
    await asyncio.sleep(0.05)  # time for what must not happen
    assert not wait.done()
    assert "exit" not in harness.publisher.topics
    harness.machine.drain()
    await wait
    assert "exit" in harness.publisher.topics


async def test_start_is_told_before_the_exit_of_a_process_that_died_at_once(
    harness: Harness,
) -> None:
    await harness.create()
    harness.machine.agent.delay_start.clear()
    start = asyncio.create_task(harness.call("Start", id="c1"))
    await asyncio.sleep(0)
    harness.end(INIT, 1)
    await asyncio.sleep(0.02)
    harness.machine.agent.delay_start.set()
    await start
    await harness.call("Wait", id="c1")
    assert harness.publisher.topics == ["create", "start", "exit"]


async def test_the_exits_of_execs_are_reported_before_their_inits(harness: Harness) -> None:
    await harness.run()
    await harness.exec()
    await harness.call("Start", id="c1", exec_id="e1")
    harness.end(INIT, 0)
    await asyncio.sleep(0.02)
    assert "exit" not in harness.publisher.topics
    harness.end(EXEC, 137)
    await harness.call("Wait", id="c1")
    exits = [event.id for topic, event in harness.publisher.events if topic == "exit"]
    assert exits == ["e1", "c1"]


async def test_an_exec_has_a_life_of_its_own(harness: Harness) -> None:
    await harness.run()
    await harness.exec()
    state = await harness.call("State", id="c1", exec_id="e1")
    assert (state.status, state.pid, state.exec_id) == (types_pb2.CREATED, 0, "e1")
    await harness.call("Start", id="c1", exec_id="e1")
    harness.end(EXEC, 5)
    assert (await harness.call("Wait", id="c1", exec_id="e1")).exit_status == 5
    assert (await harness.call("Delete", id="c1", exec_id="e1")).exit_status == 5
    with pytest.raises(NotFound):
        await harness.status("e1")
    assert await harness.status() == types_pb2.RUNNING
    assert harness.publisher.topics == ["create", "start", "exec-added", "exec-started", "exit"]


async def test_an_exec_id_is_taken_once(harness: Harness) -> None:
    await harness.run()
    await harness.exec()
    with pytest.raises(AlreadyExists, match="exec 'e1'"):
        await harness.exec()


async def test_no_new_exec_after_the_init_has_died(harness: Harness) -> None:
    await harness.run()
    await harness.exec()
    harness.end(INIT, 0)
    await harness.call("Wait", id="c1")
    with pytest.raises(FailedPrecondition, match="no new exec"):
        await harness.call("Start", id="c1", exec_id="e1")
    await harness.call("Delete", id="c1", exec_id="e1")
    with pytest.raises(FailedPrecondition, match="no new exec"):
        await harness.exec()


async def test_a_failed_start_of_an_exec_ends_it_and_answers_its_waiters(harness: Harness) -> None:
    await harness.run()
    await harness.exec()
    wait = asyncio.create_task(harness.call("Wait", id="c1", exec_id="e1"))
    harness.machine.agent.start_error = NotFound('exec: "x": executable file not found in $PATH')
    with pytest.raises(NotFound, match="executable file not found"):
        await harness.call("Start", id="c1", exec_id="e1")
    assert (await wait).exit_status == 127
    await harness.call("Delete", id="c1", exec_id="e1")
    assert await harness.status() == types_pb2.RUNNING


async def test_a_failed_start_of_the_init_leaves_a_task_that_can_be_deleted(
    harness: Harness,
) -> None:
    await harness.create()
    harness.machine.agent.start_error = InvalidArgument("exec: permission denied")
    with pytest.raises(InvalidArgument, match="permission denied"):
        await harness.call("Start", id="c1")
    assert await harness.status() == types_pb2.STOPPED
    assert (await harness.call("Delete", id="c1")).exit_status == 126


async def test_the_network_is_joined_before_each_container_starts_and_not_for_execs(
    harness: Harness,
) -> None:
    await harness.create()
    assert harness.machine.network.joins == 0
    await harness.call("Start", id="c1")
    await harness.exec()
    await harness.call("Start", id="c1", exec_id="e1")
    assert harness.machine.network.joins == 1


async def test_a_network_that_cannot_be_joined_is_a_start_error(harness: Harness) -> None:
    await harness.create()
    harness.machine.network.error = HostResource("network: eth0: no such interface")
    with pytest.raises(HostResource, match="eth0"):
        await harness.call("Start", id="c1")
    assert await harness.status() == types_pb2.STOPPED


async def test_a_kill_on_its_way_when_the_process_ends_finds_it_finished(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine ends with its container, so the answer never comes."""
    sent, closed = asyncio.Event(), asyncio.Event()

    async def signal_process(*_: object) -> None:
        sent.set()
        await closed.wait()
        raise Unavailable("the connection with the guest's agent was closed")

    await harness.run()
    monkeypatch.setattr(harness.machine.agent, "signal_process", signal_process)
    kill = asyncio.create_task(harness.call("Kill", id="c1", signal=9))
    await sent.wait()
    harness.end(INIT, 137)
    await harness.call("Wait", id="c1")
    closed.set()
    with pytest.raises(NotFound, match="already finished"):
        await kill


async def test_kill_follows_the_state(harness: Harness) -> None:
    await harness.run()
    await harness.exec()
    with pytest.raises(FailedPrecondition, match="has not been started"):
        await harness.call("Kill", id="c1", exec_id="e1", signal=15)
    with pytest.raises(NotFound, match="exec 'nobody'"):
        await harness.call("Kill", id="c1", exec_id="nobody", signal=15)
    with pytest.raises(InvalidArgument, match="signal: expected 0 to 64, is 65"):
        await harness.call("Kill", id="c1", signal=65)
    await harness.call("Kill", id="c1", signal=0)
    await harness.call("Kill", id="c1", signal=9, all=True)
    assert ("signal", INIT, 9, True) in harness.machine.agent.calls
    assert (await harness.call("Wait", id="c1")).exit_status == 137
    with pytest.raises(NotFound, match="process already finished"):
        await harness.call("Kill", id="c1", signal=15)


async def test_a_running_container_is_not_deleted_a_created_one_is(harness: Harness) -> None:
    await harness.create()
    assert (await harness.call("Delete", id="c1")).exit_status == 137


async def test_delete_of_a_running_container_is_refused(harness: Harness) -> None:
    await harness.run()
    with pytest.raises(FailedPrecondition, match="it is running"):
        await harness.call("Delete", id="c1")
    assert await harness.status() == types_pb2.RUNNING


async def test_pause_and_resume(harness: Harness) -> None:
    await harness.run()
    await harness.call("Pause", id="c1")
    assert await harness.status() == types_pb2.PAUSED
    with pytest.raises(FailedPrecondition):
        await harness.call("Pause", id="c1")
    await harness.call("Resume", id="c1")
    assert await harness.status() == types_pb2.RUNNING
    with pytest.raises(FailedPrecondition):
        await harness.call("Resume", id="c1")
    assert harness.publisher.topics[2:] == ["paused", "resumed"]


async def test_a_paused_container_takes_no_exec(harness: Harness) -> None:
    """As under runc: in the frozen cgroup the exec and its caller would hang."""
    await harness.run()
    await harness.exec()
    await harness.call("Pause", id="c1")
    with pytest.raises(FailedPrecondition, match="is paused: no new exec"):
        await harness.call("Start", id="c1", exec_id="e1")
    await harness.call("Resume", id="c1")
    await harness.call("Start", id="c1", exec_id="e1")


async def test_a_stopped_container_is_not_updated(harness: Harness) -> None:
    await harness.run()
    harness.end(INIT, 0)
    await harness.call("Wait", id="c1")
    value = AnyMessage(type_url="x", value=b"{}")
    with pytest.raises(FailedPrecondition, match="has stopped: nothing to update"):
        await harness.call("Update", id="c1", resources=value)


async def test_update_passes_what_the_guest_can_enforce(harness: Harness) -> None:
    await harness.run()
    resources = {"memory": {"limit": 5}, "blockIO": {"weight": 1}}
    value = AnyMessage(type_url="x", value=json.dumps(resources).encode())
    await harness.call("Update", id="c1", resources=value)
    assert harness.machine.agent.calls[-1] == ("update", "c1", b'{"memory": {"limit": 5}}')


@pytest.mark.parametrize("cgroup2", [True, False])
async def test_stats_come_in_the_form_of_the_hosts_cgroups(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, cgroup2: bool
) -> None:
    monkeypatch.setattr("shim.containerd.task.host_has_cgroup2", lambda: cgroup2)
    await harness.run()
    harness.machine.agent.stats = {
        "memory.current": {"": 4096},
        "memory.stat": {"anon": 1, "file": 2, "inactive_file": 3},
        "cpu.stat": {"usage_usec": 7},
        "pids.current": {"": 2},
        "memory.max": {"": (1 << 64) - 1},
    }
    stats = (await harness.call("Stats", id="c1")).stats
    if cgroup2:
        assert stats.type_url == "io.containerd.cgroups.v2.Metrics"
        metrics = cgroups_v2_pb2.Metrics.FromString(stats.value)
        assert (metrics.memory.usage, metrics.memory.inactive_file) == (4096, 3)
        assert metrics.cpu.usage_usec == 7
        return
    assert stats.type_url == "io.containerd.cgroups.v1.Metrics"
    old = cgroups_v1_pb2.Metrics.FromString(stats.value)
    assert (old.memory.usage.usage, old.memory.total_inactive_file) == (4096, 3)
    assert (old.cpu.usage.total, old.pids.current) == (7000, 2)


async def test_checkpoints_are_unimplemented(harness: Harness) -> None:
    await harness.run()
    with pytest.raises(Unimplemented):
        await harness.call("Checkpoint", id="c1")
    with pytest.raises(Unimplemented):
        await harness.create("c2", checkpoint="/x")


@pytest.mark.parametrize("container_id", ["", "../x", "a/b", ".", "x" * 77, "a b", "-a"])
async def test_an_id_that_could_be_a_path_is_refused(harness: Harness, container_id: str) -> None:
    with pytest.raises(InvalidArgument, match="id: expected"):
        await harness.create(container_id)


async def test_a_payload_that_is_no_message_is_invalid_argument(harness: Harness) -> None:
    for method in harness.service.describe()[SERVICES[0]].values():
        with pytest.raises(InvalidArgument, match=r"containerd\.task\.v2\."):
            await method.handler(b"\xff\xff\xff")


async def test_a_failed_create_undoes_itself_and_the_next_works(harness: Harness) -> None:
    harness.machine.agent.create_error = GuestFault("crun: no")
    with pytest.raises(GuestFault, match="crun: no"):
        await harness.create()
    assert FakeFiles.mounted == []
    assert harness.publisher.topics == []
    harness.machine.agent.create_error = None
    await harness.create()


async def test_a_failed_mount_is_the_error_that_the_caller_sees(harness: Harness) -> None:
    FakeFiles.error = HostResource("rootfs[0]: cannot mount overlay")
    with pytest.raises(HostResource, match="cannot mount overlay"):
        await harness.create()
    FakeFiles.error = None


async def test_an_id_is_taken_once(harness: Harness) -> None:
    await harness.create()
    with pytest.raises(AlreadyExists, match="container 'c1' exists already"):
        await harness.create()


async def test_a_missing_bundle_is_named(harness: Harness) -> None:
    with pytest.raises(NotFound, match=r"/nowhere/config\.json"):
        await harness.call("Create", id="c1", bundle="/nowhere")


async def test_containerd_gives_up_a_creation_and_nothing_is_left(harness: Harness) -> None:
    """Its client was killed: containerd calls Delete and Shutdown, and nothing
    else."""
    harness.machine.agent.delay_create.clear()
    creation = asyncio.create_task(harness.create())
    while not harness.machine.agent.calls:
        await asyncio.sleep(0.01)
    with pytest.raises(NotFound):
        await harness.call("Delete", id="c1")
    await harness.call("Shutdown", id="c1")
    assert harness.over
    await harness.containers.close()
    with pytest.raises(GuestFault):
        await creation
    assert FakeFiles.mounted == []


async def test_without_a_machine_create_says_why_and_shutdown_still_works(tmp_path: Path) -> None:
    harness = Harness(tmp_path, HostResource("/dev/kvm: no such file"), "c1")
    with pytest.raises(HostResource, match="/dev/kvm"):
        await harness.create()
    assert (await harness.call("Connect", id="c1")).task_pid == 0
    await harness.call("Shutdown", id="c1")
    assert harness.over
    await harness.close()


@pytest.mark.parametrize("status", [137, 255])
async def test_the_machines_end_is_the_end_of_all_its_processes(
    harness: Harness, status: int
) -> None:
    await harness.run()
    await harness.exec()
    await harness.call("Start", id="c1", exec_id="e1")
    harness.machine.die(status)
    assert (await harness.call("Wait", id="c1", exec_id="e1")).exit_status == status
    assert (await harness.call("Wait", id="c1")).exit_status == status
    assert (await harness.call("Delete", id="c1")).exit_status == status
    assert FakeFiles.mounted == []


async def test_the_machine_goes_with_the_only_container_before_delete(harness: Harness) -> None:
    await harness.run()
    harness.end(INIT, 0)
    await harness.call("Wait", id="c1")
    async with asyncio.timeout(10):
        while not harness.machine.stopped or FakeFiles.mounted:
            await asyncio.sleep(0.01)
    assert await harness.status() == types_pb2.STOPPED
    await harness.call("Delete", id="c1")


async def test_a_pods_machine_stays_until_its_last_container_is_deleted(pod: Harness) -> None:
    await pod.create("a")
    await pod.create("b")
    for name in ("a", "b"):
        await pod.call("Start", id=name)
    pod.end(ProcessName("a"), 0)
    await pod.call("Wait", id="a")
    await pod.call("Delete", id="a")
    assert not pod.machine.stopped
    await pod.call("Shutdown", id="a")
    assert not pod.over
    pod.end(ProcessName("b"), 0)
    await pod.call("Wait", id="b")
    await pod.call("Delete", id="b")
    assert pod.machine.stopped
    await pod.call("Shutdown", id="b")
    assert pod.over


async def test_resize_reaches_a_terminal_only(harness: Harness) -> None:
    await harness.run()
    await harness.call("ResizePty", id="c1", width=80, height=24)
    assert "resize" not in [call[0] for call in harness.machine.agent.calls]


async def test_resize_of_a_terminal(harness: Harness) -> None:
    await harness.create(terminal=True)
    await harness.call("ResizePty", id="c1", width=80, height=24)
    assert ("resize", INIT, 80, 24) in harness.machine.agent.calls
