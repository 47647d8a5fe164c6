"""The inside runner and the outer session, end to end over a socket pair, without a host."""

import io
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testhost import session
from tests.testhost.frames import Kind, encode
from tests.testhost.guest.runner import Channel, run_command
from tests.testhost.session import HostFailure, Job, Session

ENV = {"PATH": "/usr/bin:/bin"}


def serve(inside: socket.socket) -> None:
    """What runner.main() does, without the services of a real host."""
    with inside:
        channel = Channel(inside.fileno())
        job, early = channel.receive_job()
        status = run_command(channel, job, job["env"], early)
        channel.send(Kind.EXIT, json.dumps({"status": status}).encode())


@pytest.fixture
def run_job() -> Callable[..., int]:
    def run(*argv: str, timeout_s: float | None = None) -> int:
        outside, inside = socket.socketpair()
        served = threading.Thread(target=serve, args=[inside])
        served.start()
        try:
            with outside:
                return Session(outside, timeout_s, io.BytesIO()).run(Job(list(argv), ENV))
        finally:
            served.join()

    return run


def test_the_exit_status_is_the_commands(run_job: Callable[..., int]) -> None:
    assert run_job("sh", "-c", "exit 7") == 7


def test_a_death_by_signal_is_128_and_the_signal(run_job: Callable[..., int]) -> None:
    assert run_job("sh", "-c", "kill -9 $$") == 137


def test_a_command_that_is_not_there_is_127_and_named(
    run_job: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job("no-such-command") == 127
    assert "no-such-command: not found" in capsys.readouterr().err


def test_a_file_that_is_no_program_is_126(run_job: Callable[..., int]) -> None:
    assert run_job("/etc/passwd") == 126


def test_output_is_binary_safe_complete_and_apart(
    run_job: Callable[..., int], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    script = "import os; os.write(1, bytes(range(256)) * 4096); os.write(2, b'err\\xff')"
    assert run_job(sys.executable, "-c", script) == 0
    out, err = capfdbinary.readouterr()
    assert out == bytes(range(256)) * 4096
    assert err == b"err\xff"


def test_a_daemon_that_keeps_the_output_open_is_not_waited_for(
    run_job: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_job("sh", "-c", "sleep 30 & echo $!") == 0
    pid = int(capfd.readouterr().out)
    os.kill(pid, signal.SIGKILL)


def test_a_command_over_its_time_is_ended_with_124(
    run_job: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job("sleep", "600", timeout_s=0) == 124
    assert "timeout" in capsys.readouterr().err


def test_a_host_that_ends_first_is_no_verdict_on_the_command() -> None:
    outside, inside = socket.socketpair()
    inside.send(encode(Kind.STARTED))
    inside.close()
    with outside, pytest.raises(HostFailure, match="before the command"):
        Session(outside, None, io.BytesIO()).run(Job(["true"], ENV))


def test_a_host_that_falls_silent_is_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with a quiet command is not: it sends signs of life whatever the command
    does."""
    monkeypatch.setattr(session, "SILENCE_DEADLINE_S", 0)
    outside, inside = socket.socketpair()
    inside.send(encode(Kind.STARTED))
    with outside, inside, pytest.raises(HostFailure, match="no sign of life"):
        Session(outside, None, io.BytesIO()).run(Job(["true"], ENV))


def test_stdin_is_passed_on_while_output_floods(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """More than all buffers hold, in both directions at once: neither side may wait for the
    other."""
    size = 8 << 20
    outside, inside = socket.socketpair()
    reader, writer = os.pipe()

    def type_in() -> None:
        with open(writer, "wb") as typed:
            typed.write(bytes(size))

    threads = [threading.Thread(target=serve, args=[inside]), threading.Thread(target=type_in)]
    for thread in threads:
        thread.start()
    with outside, open(reader, "rb"):
        outer = Session(outside, None, io.BytesIO(), stdin=reader)
        assert outer.run(Job(["cat"], ENV, stdin=True)) == 0
    for thread in threads:
        thread.join()
    assert capfdbinary.readouterr().out == bytes(size)


def test_stdin_may_be_a_file(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "script").write_text("echo from a file; exit 5\n")
    outside, inside = socket.socketpair()
    served = threading.Thread(target=serve, args=[inside])
    served.start()
    with outside, (tmp_path / "script").open("rb") as script:
        outer = Session(outside, None, io.BytesIO(), stdin=script.fileno())
        assert outer.run(Job(["sh"], ENV, stdin=True)) == 5
    served.join()
    assert capfdbinary.readouterr().out == b"from a file\n"
