"""File descriptors with exactly one owner."""

import os
import socket
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class OwnedFd:
    """Closes its descriptor once, unless `steal` has given it away."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        if self._number < 0:
            raise ValueError("the descriptor is closed")
        return self._number

    def steal(self) -> int:
        """The descriptor, which the caller owns from now on."""
        number = self.fileno()
        self._number = -1
        return number

    def close(self) -> None:
        if self._number >= 0:
            number, self._number = self._number, -1
            os.close(number)


def close_all(numbers: Iterable[int]) -> None:
    for number in numbers:
        os.close(number)


@contextmanager
def opened(number: int) -> Iterator[int]:
    """Closes `number` at the end of the block."""
    try:
        yield number
    finally:
        os.close(number)


def receive_fds(
    connection: socket.socket, max_bytes: int, max_fds: int
) -> tuple[bytes, list[int], int]:
    """A message, the descriptors with it, the flags that recvmsg(2) returns.

    Not socket.recv_fds: it drops its flags (CPython 3.11 to 3.13), so that descriptors would
    be inherited by every program that is started meanwhile.
    """
    fds = array("i")
    data, ancillary, flags, _ = connection.recvmsg(
        max_bytes, socket.CMSG_LEN(max_fds * fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, fds.tolist(), flags
