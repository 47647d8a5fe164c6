"""Which processes the host starts while it watches, and when.

From the kernel's process connector (linux/cn_proc.h): each exec, and each change of
a name (a process forked from the warm server executes nothing), with a time
stamp of CLOCK_MONOTONIC, which is time.monotonic_ns().  Needs root.  One
thread reads while a ProcessWatch is open.
"""

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeGuard

NETLINK_CONNECTOR: Final = 11
CN_IDX_PROC: Final = 1
CN_VAL_PROC: Final = 1
NLMSG_DONE: Final = 3
PROC_CN_MCAST_LISTEN: Final = 1
PROC_EVENT_EXEC: Final = 2
PROC_EVENT_COMM: Final = 0x200
COMM_BYTES: Final = 16

NETLINK_HEADER: Final = struct.Struct("=IHHII")
CONNECTOR_HEADER: Final = struct.Struct("=IIIIHH")
PROC_EVENT: Final = struct.Struct("=IIQII")  # what, cpu, timestamp, pid, thread group
RECEIVE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Exec:
    """A process that began to run a program."""

    time_ns: int
    pid: int
    command: str
    """Its command line, as far as it could still be read."""


@dataclass(frozen=True, slots=True)
class Rename:
    """A process that gave itself a name."""

    time_ns: int
    pid: int
    name: str


class ProcessWatch:
    """Context manager.  `events` grows while it is open."""

    def __init__(self) -> None:
        self.events: list[Exec | Rename] = []

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._socket.bind((0, CN_IDX_PROC))
        self._socket.send(subscription())
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._read, name="process-watch")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        self._socket.close()

    def since(self, time_ns: int) -> list[Exec]:
        return [event for event in list(self.events) if is_exec_since(event, time_ns)]

    def find_name(self, name: str, time_ns: int) -> Rename | None:
        """The first process that got this name since then."""
        named = (one for one in list(self.events) if isinstance(one, Rename))
        return next((one for one in named if one.name == name and one.time_ns >= time_ns), None)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket.fileno(), self._stop], [], [])
            if self._socket.fileno() in ready:
                # ENOBUFS: some events were lost; the others still count.
                with suppress(OSError):
                    self.events.extend(parse_events(self._socket.recv(1 << 16)))
            elif self._stop in ready:
                return


def subscription() -> bytes:
    body = struct.pack("=I", PROC_CN_MCAST_LISTEN)
    message = CONNECTOR_HEADER.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, len(body), 0) + body
    return NETLINK_HEADER.pack(NETLINK_HEADER.size + len(message), NLMSG_DONE, 0, 0, 0) + message


def is_exec_since(event: Exec | Rename, time_ns: int) -> TypeGuard[Exec]:
    return isinstance(event, Exec) and event.time_ns >= time_ns


def parse_events(packet: bytes) -> Iterator[Exec | Rename]:
    """Events of execs and new names; a command line is read from /proc at once."""
    at = NETLINK_HEADER.size + CONNECTOR_HEADER.size
    if len(packet) < at + PROC_EVENT.size:
        return
    what, _, time_ns, pid, _ = PROC_EVENT.unpack_from(packet, at)
    if what == PROC_EVENT_EXEC:
        yield Exec(time_ns, pid, read_command(pid))
    elif what == PROC_EVENT_COMM:
        name = packet[at + PROC_EVENT.size :][:COMM_BYTES]
        yield Rename(time_ns, pid, name.partition(b"\0")[0].decode(errors="replace"))


def read_command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
