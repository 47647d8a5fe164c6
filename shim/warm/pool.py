"""The warm server's list of the processes that wait with a prewarmed machine.

The server makes them at the request of a running sandbox, never more than its
configuration says; one that serves a sandbox is no longer in the pool.  The others end
with the server.
"""

import json
import logging
import os
import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from shim.config import PATH_VARIABLE, Config
from shim.errors import SampanError
from shim.machine.directory import state_dir
from shim.machine.held import name_held
from shim.machine.size import MachineSize
from shim.machine.templates.identity import MachineClass, find_template

MAX_WISH_BYTES: Final = 16 << 10
READY: Final = b"r"
log = logging.getLogger(__name__)


class Wish(NamedTuple):
    name: str
    """The machine's (name_held)."""
    limit: int
    config_path: str
    state_dir: str
    vcpus: int
    memory_bytes: int
    nics: int
    scope: str

    @property
    def machine_class(self) -> MachineClass:
        return MachineClass(MachineSize(self.vcpus, self.memory_bytes), self.nics, self.scope)


@dataclass(slots=True)
class ReadyProcess:
    pid: int
    name: str
    connection: socket.socket
    is_ready: bool = False


class Pool:
    """The warm server's; `leave` it in every process that is forked from there."""

    def __init__(self) -> None:
        self.processes: list[ReadyProcess] = []
        self.wishes, self.wishing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.wishing.setblocking(False)

    def list_ready(self) -> list[ReadyProcess]:
        return [process for process in self.processes if process.is_ready]

    def wish(self, config: Config, config_path: str, machine_class: MachineClass) -> None:
        """Requests a prewarmed machine, from a sandbox's server.  No effect without a template."""
        try:
            template = find_template(config, machine_class)
        except SampanError as error:
            log.warning("no machine is kept ready: %s", error)
            return
        if not template:
            return
        size = machine_class.size
        wish = Wish(
            name_held(config, machine_class, template),
            config.ready_machines,
            config_path or os.environ.get(PATH_VARIABLE, ""),
            state_dir(),
            size.vcpus,
            size.memory_bytes,
            machine_class.nics,
            machine_class.scope,
        )
        with suppress(OSError):  # the server is gone, or hangs
            self.wishing.send(json.dumps(wish).encode())

    def leave(self) -> None:
        """Hazard: a copy of a connection would keep its process when the server has ended."""
        self.wishes.close()
        for process in self.processes:
            process.connection.close()
        self.processes.clear()

    def register(self, poll: select.poll) -> None:
        for connection in (self.wishes, *(process.connection for process in self.processes)):
            poll.register(connection, select.POLLIN)

    def receive_wish(self) -> Wish | None:
        try:
            return Wish(*json.loads(self.wishes.recv(MAX_WISH_BYTES)))
        except (OSError, ValueError, TypeError):
            return None

    def make_room(self, wish: Wish) -> int:
        """How many to make; ends processes with other machines, the oldest first."""
        alike = [process for process in self.processes if process.name == wish.name]
        missing = max(0, wish.limit - len(alike))
        others = [process for process in self.processes if process.name != wish.name]
        surplus = len(self.processes) + missing - wish.limit
        for process in others[: max(0, surplus)]:
            self.drop(process)
        return missing

    def add(self, pid: int, wish: Wish, connection: socket.socket) -> None:
        """Takes `connection` over."""
        connection.setblocking(False)
        self.processes.append(ReadyProcess(pid, wish.name, connection))

    def hear(self, fd: int) -> None:
        """A process reports that it is ready, serves a sandbox, or has ended."""
        for process in list(self.processes):
            if process.connection.fileno() != fd:
                continue
            try:
                process.is_ready = process.connection.recv(1) == READY
            except BlockingIOError:
                continue  # the event was for an older descriptor with this number
            except OSError:
                process.is_ready = False
            if not process.is_ready:
                self.drop(process)

    def drop(self, process: ReadyProcess) -> None:
        """Ends the process, unless it serves a sandbox."""
        self.processes.remove(process)
        process.connection.close()
