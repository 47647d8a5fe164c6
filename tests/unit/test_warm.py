"""What the warm server accepts of a launcher, byte by byte, and what it has loaded."""

import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from shim.warm.handoff import Handoff, receive_handoff, send_handoff
from shim.warm.installation import Installation
from shim.warm.pool import Pool, PrewarmRequest
from shim.warm.request import READY, Request, RequestError, parse_request, receive_request

WORDS = b"3\x00712\0/bin/shim\0-id\0c1\0PATH=/bin\0A=b=c\0EMPTY=\0"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_request_is_arguments_a_caller_and_an_environment() -> None:
    assert parse_request(WORDS, [5, 6, 7, 8]) == Request(
        "shim", ["-id", "c1"], 712, {"PATH": "/bin", "A": "b=c", "EMPTY": ""}, [5, 6, 7, 8]
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1",
        b"x\0y\0",
        b"0\x001\0",
        b"-1\x001\0a\0",
        b"9\x001\0a\0",
        WORDS[:-1],
    ],
)
def test_what_is_cut_short_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(data, [])


def test_nothing_is_done_for_a_launcher_that_has_not_waited(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The launcher does it itself."""
    ours, theirs = pair
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(RequestError, match="0 descriptors"):
        receive_request(ours)
    assert theirs.recv(1) == READY


def test_a_request_is_complete_or_none(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    before = os.listdir("/proc/self/fd")
    socket.send_fds(theirs, [WORDS], [0, 1, 2])
    with pytest.raises(RequestError, match="3 descriptors"):
        receive_request(ours)
    socket.send_fds(theirs, [WORDS], [0, 1, 2, 0, 0])
    with pytest.raises(RequestError):
        receive_request(ours)
    assert os.listdir("/proc/self/fd") == before


def test_a_request_comes_when_somebody_is_ready(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    socket.send_fds(theirs, [WORDS], [0, 1, 2, 0])
    request = receive_request(ours)
    assert theirs.recv(1) == READY
    assert (request.arguments, request.caller, len(request.fds)) == (["-id", "c1"], 712, 4)
    for fd in request.fds:
        os.close(fd)


def test_an_installation_is_what_it_was_until_a_file_changes() -> None:
    installation = Installation()
    assert installation.is_current()
    path = next(iter(installation._stamps))
    installation._stamps[path] = None
    assert not installation.is_current()


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()
    made.request_sender.close()


def make_request(name: str = "n", limit: int = 1) -> PrewarmRequest:
    return PrewarmRequest(name, limit, "", "/run", 1, 1 << 30, 0, "tenant")


def add_process(pool: Pool, pid: int, name: str = "n") -> socket.socket:
    """Adds a waiting process; returns that process' end of the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pool.add(pid, make_request(name), ours)
    return theirs


def hear_all(pool: Pool) -> None:
    for process in list(pool.processes):
        pool.receive_state(process.connection.fileno())


def test_a_process_is_of_use_from_its_word_on_until_it_has_gone(pool: Pool) -> None:
    with add_process(pool, 7) as process:
        hear_all(pool)  # no answer comes: the server does not wait for it
        assert pool.list_ready() == []
        process.send(b"r")
        hear_all(pool)
        assert [found.pid for found in pool.list_ready()] == [7]
    hear_all(pool)
    assert pool.processes == []


def test_as_many_are_made_as_are_missing_and_others_go_the_oldest_first(pool: Pool) -> None:
    others = [add_process(pool, pid, "other") for pid in (1, 2)]
    with add_process(pool, 3):
        assert pool.make_room(make_request(limit=3)) == 2
        assert [process.pid for process in pool.processes] == [3]
        assert [other.recv(1) for other in others] == [b"", b""]
        assert pool.make_room(make_request(limit=1)) == 0
    for other in others:
        other.close()


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b'["n", 1]'])
def test_what_is_no_request_is_none(pool: Pool, data: bytes) -> None:
    pool.request_sender.send(data)
    assert pool.receive_request() is None


def test_a_request_comes_as_it_was_made(pool: Pool) -> None:
    pool.request_sender.send(json.dumps(make_request()).encode())
    assert pool.receive_request() == make_request()


@pytest.mark.parametrize("answers", [b"", b"a", b"x"])
def test_a_sandbox_is_taken_up_only_by_who_answers(answers: bytes) -> None:
    """And not after its caller has stopped waiting."""
    handoff = Handoff("/run/s", {}, 0, [], {}, [])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, socket.socket(socket.AF_UNIX) as listener:

        def answer() -> bytes:
            data, fds, _, _ = socket.recv_fds(theirs, 1 << 16, 2)
            assert Handoff(*json.loads(data)) == handoff
            os.close(fds[1])
            with socket.socket(fileno=fds[0]) as caller:
                if answers:
                    caller.send(answers)
                return caller.recv(1) if answers == b"a" else b""

        with ThreadPoolExecutor(1) as thread:
            heard = thread.submit(answer)
            assert send_handoff(ours, handoff, listener) == (answers == b"a")
            assert heard.result() == (b"c" if answers == b"a" else b"")


def test_a_caller_that_has_gone_is_not_served(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    answers, closed = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    data = json.dumps(Handoff("/run/s", {}, 0, [], {}, [])).encode()
    with socket.socket(socket.AF_UNIX) as listener, answers:
        socket.send_fds(theirs, [data], [closed.fileno(), listener.fileno()])
        closed.close()
        answers.close()
        before = os.listdir("/proc/self/fd")
        with receive_handoff(ours) as received:
            assert received is None
        assert os.listdir("/proc/self/fd") == before
