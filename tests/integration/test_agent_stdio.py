"""stdio through the agent: nothing lost, nothing mixed, every end seen.

Runs the real agent with the real crun outside a guest; the host's streams are
unix sockets here and vsock connections there.
"""

import hashlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from proto.gen.agent.v1 import agent_pb2 as pb
from tests.integration.agent_run import (
    ALL,
    DEADLINE_S,
    Agent,
    Task,
    add_exec,
    finish,
    process_document,
    running,
    spec_document,
)

MIB = 1 << 20
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


@pytest.fixture(params=["init", "exec"])
def run(request: pytest.FixtureRequest, agent: Agent):
    """Starts a program, as a container's init process or as an exec in one."""

    def start(args: list[str], **options) -> Task:
        if request.param == "init":
            return running(agent, args, **options)
        exec_ = add_exec(running(agent, FOREVER), args, **options)
        exec_.start()
        return exec_

    return start


def feed(stream: socket.socket, data: bytes) -> threading.Thread:
    """Sends all and then the end of input, concurrently with the caller."""

    def send() -> None:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_stdout_and_stderr_come_apart(run) -> None:
    task = run(["sh", "-c", "echo out; echo err >&2"])
    assert task.read("stdout") == b"out\n"
    assert task.read("stderr") == b"err\n"
    assert task.wait() == 0


def test_stdin_flows_until_its_end(run) -> None:
    task = run(["cat"], streams=ALL)
    task.streams["stdin"].sendall(b"one\n")
    task.read_until("stdout", b"one\n")
    task.streams["stdin"].sendall(b"two\n")
    task.streams["stdin"].shutdown(socket.SHUT_WR)
    assert task.read("stdout") == b"two\n"
    assert task.wait() == 0


def test_64_mib_pass_through_both_ways(run) -> None:
    data = os.urandom(64 * MIB)
    task = run(["cat"], streams=ALL)
    feeding = feed(task.streams["stdin"], data)
    returned = task.read("stdout")
    feeding.join()
    assert hashlib.sha256(returned).digest() == hashlib.sha256(data).digest()
    assert task.wait() == 0


def test_what_was_printed_before_an_exit_arrives_though_nobody_reads_yet(run) -> None:
    """More than the pipe holds, so that every buffer on the way has a part."""
    task = run(["sh", "-c", "head -c 8388608 /dev/zero"])
    waiting = task.agent.stub.WaitProcess.future(task.ref, timeout=DEADLINE_S)
    assert len(task.read("stdout")) == 8 * MIB
    assert waiting.result().exit_status == 0


def test_a_process_that_never_reads_ends_its_stdin(run) -> None:
    task = run(["true"], streams=ALL)
    assert task.wait() == 0
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        task.streams["stdin"].sendall(bytes(16 * MIB))


def test_a_reader_that_goes_is_a_broken_pipe(agent: Agent) -> None:
    """As in a shell's pipeline: SIGPIPE kills, though Python ignored it; but not an init
    process."""
    task = running(agent, ["yes"], streams=("stdout",))
    exec_ = add_exec(task, ["yes"], streams=("stdout",))
    exec_.start()
    for process, status in ((exec_, 141), (task, 1)):
        process.read_until("stdout", b"y\n")
        process.streams["stdout"].close()
        assert process.wait() == status


def test_no_streams_are_dev_null(run) -> None:
    script = "cat && yes | head -c 3000000 && echo end >&2"
    task = run(["sh", "-c", script], streams=("stderr",))
    assert task.read("stderr") == b"end\n"
    assert task.wait() == 0


def test_another_user_opens_dev_stdout(run) -> None:
    task = run(
        ["sh", "-c", "id -u >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin"],
        uid=1234,
        streams=ALL,
    )
    feed(task.streams["stdin"], b"in\n").join()
    assert task.read("stdout") == b"1234\nin\n"
    assert task.read("stderr") == b"err\n"
    assert task.wait() == 0


def test_a_terminal_is_one_and_has_a_size(run, agent: Agent) -> None:
    script = "trap 'stty size; exit 4' WINCH; test -t 0 && test -t 1 && test -t 2 && echo tty;"
    script += "while :; do sleep 0.1; done"
    task = run(["sh", "-c", script], streams=("stdin", "stdout"), terminal=True)
    task.read_until("stdout", b"tty\r\n")
    agent.stub.ResizeTerminal(pb.ResizeTerminalRequest(process=task.ref, columns=91, rows=37))
    assert task.read("stdout") == b"37 91\r\n"
    assert task.wait() == 4


def test_a_size_set_before_the_start_is_kept(agent: Agent) -> None:
    task = running(agent, FOREVER)
    script = """until [ "$(stty size)" = "44 33" ]; do :; done"""
    exec_ = add_exec(task, ["sh", "-c", script], streams=("stdin", "stdout"), terminal=True)
    agent.stub.ResizeTerminal(pb.ResizeTerminalRequest(process=exec_.ref, columns=33, rows=44))
    exec_.start()
    assert exec_.wait() == 0


def test_keys_typed_at_a_terminal_are_signals_and_lines(run) -> None:
    script = "trap 'exit 3' INT; cat"
    task = run(["sh", "-c", script], streams=("stdin", "stdout"), terminal=True)
    task.streams["stdin"].sendall(b"line\n")
    task.read_until("stdout", b"line\r\nline\r\n")  # echo, and cat
    task.streams["stdin"].sendall(b"\x03")
    assert task.wait() == 3


def test_a_terminals_last_words_arrive(run) -> None:
    task = run(
        ["sh", "-c", "head -c 100000 /dev/zero | sha256sum; echo end"],
        streams=("stdout",),
        terminal=True,
    )
    assert task.read("stdout").endswith(b"-\r\nend\r\n")
    assert task.wait() == 0


def test_a_background_child_does_not_hold_up_its_exec(agent: Agent) -> None:
    """It keeps the exec's stdout open for ever; the exec's output still arrives."""
    task = running(agent, FOREVER)
    exec_ = add_exec(task, ["sh", "-c", "sleep 1000 & head -c 3000000 /dev/zero"])
    exec_.start()
    waiting = agent.stub.WaitProcess.future(exec_.ref, timeout=DEADLINE_S)
    got = 0
    while got < 3_000_000:
        got += len(exec_.streams["stdout"].recv(1 << 16))
    assert waiting.result().exit_status == 0
    assert len(task.pids()) == 2
    exec_.delete()
    assert exec_.read("stdout") == b""


def is_known(task: Task) -> bool:
    """Whether the agent has begun to create it: its cgroup may still be missing."""
    try:
        task.agent.stub.GetStats(task.container, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return "cgroup" in str(error) and "does not exist" in str(error)
    return True


def test_streams_may_come_before_or_after_they_are_asked_for(agent: Agent) -> None:
    early, late = secrets.token_hex(16), secrets.token_hex(16)
    task = Task(agent, agent.make_id())
    task.streams["stdout"] = agent.connect(early)
    spec = spec_document(
        agent.rootfs, process_document(["sh", "-c", "echo out; echo err >&2"]), task.container_id
    )
    call = agent.stub.CreateContainer.future(
        pb.CreateContainerRequest(
            container_id=task.container_id,
            spec_json=json.dumps(spec).encode(),
            stdio=pb.Stdio(stdout_token=early, stderr_token=late),
        ),
        timeout=DEADLINE_S,
    )
    while not is_known(task):
        continue  # until the creation waits for the other one
    assert not call.done()
    task.streams["stderr"] = agent.connect(late)
    call.result()
    task.start()
    assert task.read("stdout") == b"out\n"
    assert task.read("stderr") == b"err\n"


@pytest.mark.parametrize("kind", ["init", "exec"])
@pytest.mark.parametrize("terminal", [False, True])
def test_stdin_may_come_long_after_the_start(agent: Agent, kind: str, terminal: bool) -> None:
    """The host opens it when its client does."""
    script = "echo up; read line; echo got $line"
    task = running(
        agent, ["sh", "-c", script], streams=("stdout",), late=("stdin",), terminal=terminal
    )
    if kind == "exec":
        task = add_exec(
            task, ["sh", "-c", script], streams=("stdout",), late=("stdin",), terminal=terminal
        )
        task.start()
    task.read_until("stdout", b"up")
    task.connect_late("stdin")
    task.streams["stdin"].sendall(b"it\n")
    assert b"got it" in task.read("stdout")
    assert task.wait() == 0


@pytest.mark.parametrize("script", ["true", "echo out"])
def test_stdin_that_comes_after_the_end_is_closed(agent: Agent, script: str) -> None:
    task = running(agent, ["sh", "-c", script], streams=("stdout",), late=("stdin",))
    assert task.wait() == 0
    task.connect_late("stdin")
    assert task.streams["stdin"].recv(1) == b""


@pytest.mark.parametrize("token", ["xyz", "AB" * 16, "ab" * 15])
def test_a_malformed_token_is_named(agent: Agent, token: str) -> None:
    request = pb.CreateContainerRequest(
        container_id="tokens", spec_json=b"{}", stdio=pb.Stdio(stdout_token=token)
    )
    with pytest.raises(grpc.RpcError, match=f"stdio.stdout_token: '{token}' is not 32"):
        agent.stub.CreateContainer(request)


def test_a_second_connection_with_a_token_is_closed(agent: Agent) -> None:
    token = secrets.token_hex(16)
    with agent.connect(token) as first, agent.connect(token) as second:
        assert second.recv(1) == b""
        first.setblocking(False)
        with pytest.raises(BlockingIOError):
            first.recv(1)
        task = Task(agent, agent.make_id())
        spec = spec_document(agent.rootfs, process_document(["echo", "hi"]), task.container_id)
        agent.stub.CreateContainer(
            pb.CreateContainerRequest(
                container_id=task.container_id,
                spec_json=json.dumps(spec).encode(),
                stdio=pb.Stdio(stdout_token=token),
            )
        )
        task.start()
        first.settimeout(DEADLINE_S)
        assert first.recv(100) == b"hi\n"
        agent.clear()
