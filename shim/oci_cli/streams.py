"""Standard streams that are inherited descriptors, and terminals for a console socket.

The core hands each descriptor to the machine, which needs it non-blocking.  That is a
property of the open file, which the caller and others share: pipes and terminals are
opened once more instead.
"""

import os
import socket
import stat
import tty
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from shim.errors import HostResource
from shim.host.fds import OwnedFd
from shim.sandbox.stdio import OutputEnds

REOPEN: Final = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NULL_DEVICE: Final = os.makedev(1, 3)


@dataclass(frozen=True, slots=True)
class Descriptors:
    """stdin, stdout, stderr of a caller; a terminal is all three."""

    stdin: OwnedFd
    stdout: OwnedFd
    stderr: OwnedFd

    def close(self) -> None:
        for descriptor in (self.stdin, self.stdout, self.stderr):
            descriptor.close()

    def numbers(self) -> list[int]:
        return [owned.fileno() for owned in (self.stdin, self.stdout, self.stderr)]


class InheritedStreams:
    """HostStreams (shim/sandbox/stdio.py) of descriptors, which this object owns."""

    def __init__(self, terminal: bool, inherited: Descriptors) -> None:
        self._terminal = terminal
        self._inherited = inherited
        self._has_input = not is_null(inherited.stdin)

    @property
    def terminal(self) -> bool:
        return self._terminal

    @property
    def has_input(self) -> bool:
        return self._has_input

    async def open_outputs(self) -> OutputEnds:
        stdout = open_again(self._inherited.stdout, os.O_WRONLY)
        stderr = None if self._terminal else open_again(self._inherited.stderr, os.O_WRONLY)
        self._inherited.stdout.close()
        self._inherited.stderr.close()
        return OutputEnds(stdout, stderr)

    def open_input(self) -> OwnedFd | None:
        if not self._has_input:
            return None
        reader = open_again(self._inherited.stdin, os.O_RDONLY)
        self._inherited.stdin.close()
        return reader

    def close_input(self) -> None:
        """The writer is the caller's: it closes its end itself."""

    def close(self) -> None:
        self._inherited.close()


def is_null(descriptor: OwnedFd) -> bool:
    found = os.fstat(descriptor.fileno())
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == NULL_DEVICE


def open_again(descriptor: OwnedFd, flags: int) -> OwnedFd | None:
    """None for /dev/null.  Files and sockets are only duplicated: a file has a position,
    and a socket cannot be opened."""
    if is_null(descriptor):
        return None
    mode = os.fstat(descriptor.fileno()).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with suppress(OSError):  # a pipe without a reader: writing finds that out
            return OwnedFd(os.open(f"/proc/self/fd/{descriptor.fileno()}", flags | REOPEN))
    return OwnedFd(os.dup(descriptor.fileno()))


def open_console(console_socket: str) -> OwnedFd:
    """A new terminal, whose master is sent to who listens at the path; our end of it.

    Raw: the terminal that the process sees is in the guest, and has the line discipline.
    """
    master, slave = os.openpty()
    try:
        tty.setraw(slave)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(console_socket)
            name = os.ttyname(slave).encode()
            socket.send_fds(connection, [name], [master])
    except OSError as error:
        os.close(slave)
        raise HostResource(f"--console-socket: {console_socket}: {error.strerror}") from error
    finally:
        os.close(master)
    os.set_inheritable(slave, False)
    return OwnedFd(slave)


def share_terminal(terminal: OwnedFd) -> Descriptors:
    """`terminal` as all three; it stays the caller's."""
    return Descriptors(*(OwnedFd(os.dup(terminal.fileno())) for _ in range(3)))


def take_standard_streams() -> Descriptors:
    """Copies of this process's own."""
    return Descriptors(*(OwnedFd(os.dup(number)) for number in range(3)))
