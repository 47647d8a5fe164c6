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
from shim.machine.prewarmed import name_prewarmed
from shim.machine.size import MachineSize
from shim.machine.templates.identity import MachineClass, find_template

MAX_REQUEST_BYTES: Final = 16 << 10
READY: Final = b"r"
log = logging.getLogger(__name__)


class PrewarmRequest(NamedTuple):
    name: str
    """The machine's (name_prewarmed)."""
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
class PrewarmedProcess:
    pid: int
    name: str
    connection: socket.socket
    is_ready: bool = False


class Pool:
    """The warm server's; `close` it in every process that is forked from there."""

    def __init__(self) -> None:
        self.processes: list[PrewarmedProcess] = []
        self.requests, self.request_sender = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self.request_sender.setblocking(False)

    def list_ready(self) -> list[PrewarmedProcess]:
        return [process for process in self.processes if process.is_ready]

    def request_machine(
        self, config: Config, config_path: str, machine_class: MachineClass
    ) -> None:
        """Requests a prewarmed machine, from a sandbox's server.  No effect without a template."""
        try:
            template = find_template(config, machine_class)
        except SampanError as error:
            log.warning("no machine is prewarmed: %s", error)
            return
        if not template:
            return
        size = machine_class.size
        request = PrewarmRequest(
            name_prewarmed(config, machine_class, template),
            config.prewarmed_machines,
            config_path or os.environ.get(PATH_VARIABLE, ""),
            state_dir(),
            size.vcpus,
            size.memory_bytes,
            machine_class.nics,
            machine_class.scope,
        )
        with suppress(OSError):  # the server is gone, or hangs
            self.request_sender.send(json.dumps(request).encode())

    def close(self) -> None:
        """Hazard: a copy of a connection would keep its process when the server has ended."""
        self.requests.close()
        for process in self.processes:
            process.connection.close()
        self.processes.clear()

    def register(self, poll: select.poll) -> None:
        for connection in (self.requests, *(process.connection for process in self.processes)):
            poll.register(connection, select.POLLIN)

    def receive_request(self) -> PrewarmRequest | None:
        try:
            return PrewarmRequest(*json.loads(self.requests.recv(MAX_REQUEST_BYTES)))
        except (OSError, ValueError, TypeError):
            return None

    def make_room(self, request: PrewarmRequest) -> int:
        """How many to make; ends processes with other machines, the oldest first."""
        alike = [process for process in self.processes if process.name == request.name]
        missing = max(0, request.limit - len(alike))
        others = [process for process in self.processes if process.name != request.name]
        surplus = len(self.processes) + missing - request.limit
        for process in others[: max(0, surplus)]:
            self.drop(process)
        return missing

    def add(self, pid: int, request: PrewarmRequest, connection: socket.socket) -> None:
        """Takes `connection` over."""
        connection.setblocking(False)
        self.processes.append(PrewarmedProcess(pid, request.name, connection))

    def receive_state(self, fd: int) -> None:
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

    def drop(self, process: PrewarmedProcess) -> None:
        """Ends the process, unless it serves a sandbox."""
        self.processes.remove(process)
        process.connection.close()
