"""A descriptor received over a socket is not inherited by programs started later."""

import os
import socket
import stat
from pathlib import Path

import pytest

from agent.process import ConsoleSocket
from shim.host.fds import close_all, receive_fds
from shim.warm import handoff
from shim.warm.handoff import Handoff
from shim.warm.request import receive_request


@pytest.fixture
def sent() -> int:
    return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def test_a_message_comes_with_its_descriptors(sent: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(theirs, [b"message"], [sent, sent])
        os.close(sent)
        data, fds, flags = receive_fds(ours, 100, 2)
    assert (data, len(fds), flags & socket.MSG_CTRUNC) == (b"message", 2, 0)
    assert not any(os.get_inheritable(fd) for fd in fds)
    close_all(fds)


def test_more_descriptors_than_are_expected_are_reported(sent: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(theirs, [b"x"], [sent] * 4)
        os.close(sent)
        _, fds, flags = receive_fds(ours, 100, 1)
    assert flags & socket.MSG_CTRUNC
    close_all(fds)


def test_a_terminal_that_crun_hands_over_is_not_inherited(tmp_path: Path, sent: int) -> None:
    console = ConsoleSocket(str(tmp_path / "tty"))
    with socket.socket(socket.AF_UNIX) as crun:
        crun.connect(console.path)
        socket.send_fds(crun, [b"/dev/pts/0"], [sent])
        os.close(sent)
        fd = console.receive_pty()
    console.close()
    assert stat.S_ISCHR(os.fstat(fd).st_mode)
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_what_the_launcher_passes_is_not_inherited() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    opened = [os.open("/", os.O_RDONLY | os.O_CLOEXEC) for _ in range(4)]
    with ours, theirs:
        socket.send_fds(theirs, [b"1\0" + b"1\0start\0A=b\0"], opened)
        request = receive_request(ours)
        assert not any(os.get_inheritable(fd) for fd in request.fds)
        close_all([*request.fds, *opened])


def test_a_sandbox_that_is_handed_over_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(handoff, "confirm", lambda fd: not os.get_inheritable(fd))
    with ours, theirs, here, there, socket.socket(socket.AF_UNIX) as listener:
        data = b'["/run/s", {}, 0, [], {}, []]'
        socket.send_fds(theirs, [data], [there.fileno(), listener.fileno()])
        with handoff.receive_handoff(ours) as received:
            assert received is not None
            assert received[0] == Handoff("/run/s", {}, 0, [], {}, [])
            assert not received[1].get_inheritable()
            received[1].close()
