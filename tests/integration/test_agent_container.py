"""A container's life in the agent: start, end, signals, errors, and nothing left.

Runs the real agent with the real crun outside a guest.
"""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from proto import contract
from proto.gen.agent.v1 import agent_pb2 as pb
from tests.integration.agent_run import (
    ALL,
    DEADLINE_S,
    Agent,
    Task,
    add_exec,
    create,
    finish,
    is_gone,
    process_document,
    running,
    spec_document,
)

FOREVER = ["sleep", "1000"]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as agent:
        finish(running(agent, ["true"]))
        yield agent
        assert agent.complaints() == ""


@pytest.fixture(autouse=True)
def _nothing_stays(agent: Agent) -> Iterator[None]:
    before = agent.holdings()
    yield
    agent.clear()
    assert agent.holdings() == before


def refused(code: grpc.StatusCode, text: str = ""):
    return pytest.raises(grpc.RpcError, match=f"(?s)StatusCode.{code.name}.*{text}")


def test_info_tells_versions_and_times(agent: Agent) -> None:
    info = agent.stub.GetInfo(pb.GetInfoRequest())
    assert info.protocol_version == contract.PROTOCOL_VERSION
    assert info.kernel_release
    assert info.crun_version[0].isdigit()
    assert 0 < info.init_started_ns <= info.listening_ns


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 0), ("exit 255", 255)],
)
def test_the_exit_code_is_the_status(agent: Agent, script: str, status: int) -> None:
    """A pid namespace's init cannot kill itself: its exit is the shell's own."""
    task = running(agent, ["sh", "-c", script])
    assert task.wait() == status
    assert task.delete() == status
    task.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_is_128_and_its_number(agent: Agent, number: int) -> None:
    task = running(
        agent, ["sh", "-c", "trap 'trap - TERM; exit 143' TERM; echo up; cat"], streams=ALL
    )
    task.read_until("stdout", b"up\n")
    exec_ = add_exec(task, FOREVER)
    exec_.start()
    exec_.kill(number)
    assert exec_.wait() == 128 + number
    assert exec_.delete() == 128 + number
    exec_.close()
    task.kill(signal.SIGKILL)
    assert task.wait() == 137
    finish(task)


def test_every_waiter_gets_the_same_end_before_and_after_it(agent: Agent) -> None:
    task = create(agent, ["sh", "-c", "exit 5"])
    early = [agent.stub.WaitProcess.future(task.ref, timeout=DEADLINE_S) for _ in range(20)]
    task.start()
    ends = [future.result() for future in early]
    ends.append(agent.stub.WaitProcess(task.ref))
    ends.append(agent.stub.DeleteProcess(task.ref))
    task.close()
    assert {(end.exit_status, end.exited_at.ToNanoseconds()) for end in ends} == {
        (5, ends[0].exited_at.ToNanoseconds())
    }
    assert ends[0].exited_at.seconds > 0


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ("no-such", "NOT_FOUND", 'exec: \\\\?"no-such\\\\?": executable file not found in \\$PATH'),
        ("/bin/no-such", "NOT_FOUND", "stat /bin/no-such: no such file or directory"),
        ("/bin/not-executable", "INVALID_ARGUMENT", "not-executable.*permission denied"),
        ("/tmp", "INVALID_ARGUMENT", "/tmp.*permission denied"),
    ],
)
def test_a_program_that_cannot_run_is_named(
    agent: Agent, program: str, code: str, text: str
) -> None:
    """By create for an init process, by start for an exec."""
    with refused(grpc.StatusCode[code], text):
        create(agent, [program])
    task = running(agent, FOREVER)
    exec_ = add_exec(task, [program])
    with refused(grpc.StatusCode[code], text):
        exec_.start()
    assert exec_.read("stdout") == exec_.read("stderr") == b""
    assert exec_.wait() == 255
    assert exec_.delete() == 255
    exec_.close()
    finish(task)


def test_a_program_without_its_interpreter_says_so_on_stderr(agent: Agent) -> None:
    """execve fails only after the start; runc also prints its error."""
    script = agent.rootfs / "bin/no-interpreter"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    task = running(agent, ["/bin/no-interpreter"])
    assert task.wait() != 0
    assert b"/bin/no-interpreter" in task.read("stderr")
    finish(task)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (b"{", "spec_json: not JSON"),
        (b"[]", "spec_json: not an object but list"),
        (b"{}", "spec_json.process: not an object"),
        (b'{"process": {"args": []}}', "spec_json.process.args: expected a program"),
        (
            b'{"process": {"args": ["a"]}, "linux": {"cgroupsPath": "/sampan/../x"}}',
            "spec_json.linux.cgroupsPath: ./sampan/../x.",
        ),
    ],
)
def test_a_wrong_spec_names_its_field(agent: Agent, spec: bytes, field: str) -> None:
    request = pb.CreateContainerRequest(container_id="wrong", spec_json=spec)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, field):
        agent.stub.CreateContainer(request)


def test_what_crun_refuses_is_reported_in_its_words(agent: Agent) -> None:
    mounts = [{"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}]
    with refused(grpc.StatusCode.INTERNAL, "crun: .*/no/such"):
        create(agent, ["true"], change={"mounts": mounts})


@pytest.mark.parametrize("wrong", ["", "a/b", "..", "x" * (contract.MAX_ID_BYTES + 1), "a b"])
def test_ids_become_paths_and_are_checked(agent: Agent, wrong: str) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "container_id"):
        agent.stub.CreateContainer(pb.CreateContainerRequest(container_id=wrong, spec_json=b"{}"))


def test_the_longest_id_has_a_terminal(agent: Agent) -> None:
    """Unix socket paths are short: an id must not be part of one."""
    container_id = agent.make_id().ljust(contract.MAX_ID_BYTES, "x")
    task = Task(agent, container_id)
    stdio = task.open_streams(("stdout",), terminal=True)
    spec = spec_document(agent.rootfs, process_document(["echo", "long"]), container_id)
    agent.stub.CreateContainer(
        pb.CreateContainerRequest(
            container_id=container_id, spec_json=json.dumps(spec).encode(), stdio=stdio
        )
    )
    task.start()
    assert task.read("stdout") == b"long\r\n"
    finish(task)


def test_calls_in_the_wrong_state_say_which(agent: Agent) -> None:
    unknown = Task(agent, "nobody")
    for call in (unknown.start, unknown.wait, unknown.delete):
        with refused(grpc.StatusCode.NOT_FOUND, "nobody"):
            call()
    task = running(agent, FOREVER)
    spec = json.dumps(spec_document(agent.rootfs, process_document(["true"]), task.container_id))
    with refused(grpc.StatusCode.ALREADY_EXISTS, task.container_id):
        agent.stub.CreateContainer(
            pb.CreateContainerRequest(container_id=task.container_id, spec_json=spec.encode())
        )
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "it is running"):
        task.start()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "it is running"):
        task.delete()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "no terminal"):
        agent.stub.ResizeTerminal(pb.ResizeTerminalRequest(process=task.ref, columns=1, rows=1))
    exec_ = add_exec(task, FOREVER)
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "it is created"):
        exec_.kill(9)
    with refused(grpc.StatusCode.ALREADY_EXISTS, exec_.exec_id):
        agent.stub.AddExec(
            pb.AddExecRequest(
                container_id=task.container_id,
                exec_id=exec_.exec_id,
                process_json=json.dumps(process_document(["true"])).encode(),
            )
        )
    task.kill(9)
    task.wait()
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "is stopped"):
        exec_.start()
    with refused(grpc.StatusCode.NOT_FOUND, "process already finished"):
        task.kill(9)
    finish(task)
    exec_.close()


def test_a_container_that_was_never_started_can_be_deleted(agent: Agent) -> None:
    task = create(agent, ["true"])
    assert task.delete() == 137
    task.close()


def test_killing_an_exec_leaves_the_container_running(agent: Agent) -> None:
    task = running(agent, ["cat"], streams=ALL)
    exec_ = add_exec(task, FOREVER)
    exec_.start()
    exec_.kill(9)
    assert exec_.wait() == 137
    task.streams["stdin"].sendall(b"still here\n")
    task.read_until("stdout", b"still here\n")
    exec_.delete()
    exec_.close()
    finish(task)


def test_kill_all_reaches_every_process(agent: Agent) -> None:
    script = "trap '' TERM; sleep 1000 & sleep 1000 & echo up; wait"
    task = running(agent, ["sh", "-c", script])
    task.read_until("stdout", b"up\n")
    pids = task.pids()
    assert len(pids) == 3
    task.kill(9, everyone=True)
    assert task.wait() == 137
    assert all(is_gone(pid) for pid in pids)
    finish(task)


def test_a_signal_to_all_reaches_children_too(agent: Agent) -> None:
    script = "sleep 1000 & sleep 1000 & trap 'wait; exit 3' USR1; echo up; while :; do wait; done"
    task = running(agent, ["sh", "-c", script])
    task.read_until("stdout", b"up\n")
    task.kill(signal.SIGUSR1, everyone=True)
    assert task.wait() == 3
    finish(task)


def test_the_end_of_init_is_the_end_of_its_execs_and_told_after_theirs(agent: Agent) -> None:
    task = running(agent, FOREVER)
    execs = [add_exec(task, FOREVER) for _ in range(3)]
    for exec_ in execs:
        exec_.start()
    task.kill(9)
    assert task.wait() == 137
    assert [exec_.delete() for exec_ in execs] == [
        137
    ] * 3  # only a stopped container can be deleted
    for exec_ in execs:
        exec_.close()
    finish(task)


def test_processes_of_a_shared_pid_namespace_end_with_their_container(agent: Agent) -> None:
    first = create(agent, FOREVER)
    (pid,) = first.pids()
    namespaces = [{"type": kind} for kind in ("mount", "ipc", "uts", "cgroup")]
    namespaces.append({"type": "pid", "path": f"/proc/{pid}/ns/pid"})
    container_id = agent.make_id()
    spec = spec_document(
        agent.rootfs, process_document(["sh", "-c", "sleep 1000 & echo up; cat"]), container_id
    )
    spec["linux"]["namespaces"] = namespaces
    second = Task(agent, container_id)
    stdio = second.open_streams(ALL)
    agent.stub.CreateContainer(
        pb.CreateContainerRequest(
            container_id=container_id, spec_json=json.dumps(spec).encode(), stdio=stdio
        )
    )
    first.start()
    second.start()
    second.read_until("stdout", b"up\n")
    second.streams["stdin"].shutdown(1)
    assert second.wait() == 0
    while second.pids():  # killed already; they are still ending
        pass
    assert first.pids()
    finish(second)
    finish(first)


def test_a_paused_container_stands_still_and_takes_no_exec(agent: Agent) -> None:
    task = running(agent, ["cat"], streams=ALL)
    agent.stub.PauseContainer(task.container)
    task.streams["stdin"].sendall(b"hello\n")
    exec_ = add_exec(task, ["true"])
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "paused"):
        exec_.start()
    agent.stub.ResumeContainer(task.container)
    task.read_until("stdout", b"hello\n")
    exec_.start()
    assert exec_.wait() == 0
    exec_.delete()
    exec_.close()
    agent.stub.PauseContainer(task.container)
    task.kill(9)
    assert task.wait() == 137
    finish(task)


def test_stats_are_the_cgroups_own_files(agent: Agent) -> None:
    task = running(agent, FOREVER)
    files = agent.stub.GetStats(task.container).files
    assert files["cpu.stat"].values["usage_usec"] > 0
    finish(task)


def test_20_containers_at_once(agent: Agent) -> None:
    def run(number: int) -> tuple[int, bytes]:
        task = running(agent, ["sh", "-c", f"echo {number}; exit {number}"])
        output = task.read("stdout")
        status = task.wait()
        task.delete()
        task.close()
        return status, output

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(20)))
    assert results == [(number, b"%d\n" % number) for number in range(20)]


def test_a_caller_that_goes_leaves_a_whole_container(agent: Agent) -> None:
    """A creation continues to its end, so that its deletion finds all or nothing."""
    container_id = agent.make_id()
    spec = spec_document(agent.rootfs, process_document(FOREVER), container_id)
    task = Task(agent, container_id)
    tokens = pb.Stdio(stdout_token="ab" * 16)
    request = pb.CreateContainerRequest(
        container_id=container_id, spec_json=json.dumps(spec).encode(), stdio=tokens
    )
    call = agent.stub.CreateContainer.future(request)
    while True:  # until it has been accepted, where it waits for its stream
        try:
            agent.stub.CreateContainer(request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                break
    call.cancel()
    task.streams["stdout"] = agent.connect("ab" * 16)
    while True:  # until it has been created, though nobody waits for that any more
        try:
            task.start()
            break
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
    finish(task)


def test_an_out_of_memory_kill_is_told_and_survived(agent: Agent) -> None:
    """Also when it kills the init process; the agent is in no cgroup with a limit."""
    if not agent.has_controller("memory"):
        pytest.skip("cgroup v2 has no memory controller here")
    events = agent.stub.WatchEvents(pb.WatchEventsRequest())
    limits = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
    task = create(agent, ["sh", "-c", "head -c 200000000 /dev/zero | tail"], resources=limits)
    task.start()
    event = next(iter(events))
    assert event.container_id == task.container_id
    assert event.out_of_memory.oom_kills == 1
    events.cancel()
    files = agent.stub.GetStats(task.container).files
    assert files["memory.max"].values[""] == 32 << 20
    assert files["memory.events"].values["oom_kill"] >= 1
    assert files["memory.stat"].values["pgfault"] > 0
    finish(task)


def test_a_limit_can_be_changed(agent: Agent) -> None:
    if not agent.has_controller("memory"):
        pytest.skip("cgroup v2 has no memory controller here")
    task = running(agent, FOREVER)
    agent.stub.UpdateContainer(
        pb.UpdateContainerRequest(
            container_id=task.container_id, resources_json=b'{"memory": {"limit": 67108864}}'
        )
    )
    assert agent.stub.GetStats(task.container).files["memory.max"].values[""] == 64 << 20
    finish(task)


def test_an_agent_that_ends_leaves_nothing_running(tmp_path: Path) -> None:
    with Agent(tmp_path) as agent:
        task = running(agent, FOREVER)
        pids = task.pids()
        agent.process.terminate()
        assert agent.process.wait(DEADLINE_S) == 0
        assert all(is_gone(pid) for pid in pids)
        assert agent.complaints() == ""
        task.close()
