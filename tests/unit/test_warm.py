"""What the warm server accepts of a launcher, byte by byte, and what it has loaded."""

import os
import socket
from collections.abc import Iterator

import pytest

from shim.warm.installation import Installation
from shim.warm.request import READY, Request, RequestError, parse_request, receive_request

WORDS = b"3\x00712\0/bin/shim\0-id\0c1\0PATH=/bin\0A=b=c\0EMPTY=\0"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_request_is_arguments_a_caller_and_an_environment() -> None:
    assert parse_request(WORDS, [5, 6, 7, 8]) == Request(
        ["-id", "c1"], 712, {"PATH": "/bin", "A": "b=c", "EMPTY": ""}, [5, 6, 7, 8]
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
    """It is doing it itself."""
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
    assert (request.arguments, request.caller, len(request.descriptors)) == (["-id", "c1"], 712, 4)
    for descriptor in request.descriptors:
        os.close(descriptor)


def test_an_installation_is_what_it_was_until_a_file_changes() -> None:
    installation = Installation()
    assert installation.is_current()
    path = next(iter(installation._stamps))
    installation._stamps[path] = None
    assert not installation.is_current()
