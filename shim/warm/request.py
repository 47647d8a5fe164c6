"""A launcher's call, and a process that executes it as if it were the launcher.

native/launcher/warm.h has the messages.  Runs in the child that the server has
forked for the call: whatever the peer sends affects only that child.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from shim.host.fds import receive_fds
from shim.host.peer import read_peer_uid

MAX_REQUEST_BYTES: Final = 192 << 10
PASSED_FDS: Final = 4
TIMEOUT_S: Final = 5.0
"""For a launcher to send its request, which is complete before it connects."""
READY: Final = b"r"


class Request(NamedTuple):
    program: str
    """The name by which the launcher was called."""
    arguments: list[str]
    """Without the program's own name."""
    caller: int
    """The launcher's parent: containerd."""
    environment: dict[str, str]
    fds: list[int]
    """stdin, stdout, stderr, working directory."""


class RequestError(Exception):
    """The peer is no launcher, or has ended: there is nothing to do."""


def receive_request(connection: socket.socket) -> Request:
    """The launcher then waits for an exit status, one byte, on `connection`."""
    connection.settimeout(TIMEOUT_S)
    with closed_on_error() as fds:
        try:
            check_peer(connection)
            connection.send(READY)
            data, received, flags = receive_fds(connection, MAX_REQUEST_BYTES, PASSED_FDS)
            fds.extend(received)
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(received) != PASSED_FDS:
                raise RequestError(f"{len(data)} bytes, {len(received)} descriptors")
            request = parse_request(data, received)
            connection.settimeout(None)
        except OSError as error:
            raise RequestError(str(error)) from error
        return request


def check_peer(connection: socket.socket) -> None:
    uid = read_peer_uid(connection)
    if uid != os.geteuid():
        raise RequestError(f"called by user {uid}")


def parse_request(data: bytes, fds: list[int]) -> Request:
    """`argc\\0ppid\\0arg\\0…env\\0…`."""
    words = [os.fsdecode(word) for word in data.split(b"\0")]
    try:
        count, caller = int(words[0]), int(words[1])
    except (ValueError, IndexError) as error:
        raise RequestError(f"no numbers at the start of {data[:40]!r}") from error
    if words.pop() or not 1 <= count <= len(words) - 2:
        raise RequestError(f"{count} arguments in {len(words)} words")
    pairs = (word.partition("=") for word in words[2 + count :])
    environment = {name: value for name, equals, value in pairs if name and equals}
    program = os.path.basename(words[2])
    return Request(program, words[3 : 2 + count], caller, environment, fds)


def take_over(request: Request) -> None:
    """This process gets the launcher's standard streams, directory and environment."""
    directory = request.fds[-1]
    os.fchdir(directory)
    for number, fd in enumerate(request.fds[:-1]):
        os.dup2(fd, number)
    for fd in request.fds:
        os.close(fd)
    os.environ.clear()
    os.environ.update(request.environment)


@contextmanager
def closed_on_error() -> Iterator[list[int]]:
    fds: list[int] = []
    try:
        yield fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
