"""What a container's server is given by its caller, and what it has made of the host."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from shim.config import Config
from shim.host.cgroup import HostCgroup
from shim.host.fds import OwnedFd
from shim.machine.directory import SandboxDirectory
from shim.machine.launch import LaunchedMachine
from shim.oci_cli.call import Call
from shim.oci_cli.record import Record
from shim.oci_cli.streams import Descriptors


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a container is run; paths are absolute, "" is none."""

    terminal: bool
    starts: bool
    """At once, not at `start`."""
    foreground: bool
    """The launcher itself is the monitor."""
    keep: bool
    """The record stays until `delete`."""
    console_socket: str
    pid_file: str


@dataclass(frozen=True, slots=True)
class NewContainer:
    call: Call
    record: Record
    options: RunOptions
    errors: TextIO
    """The caller's stderr."""

    @property
    def sandbox(self) -> SandboxDirectory:
        return SandboxDirectory(self.record.sandbox)


@dataclass(frozen=True, slots=True)
class PreparedHost:
    """What the server has of the host.  `release` gives it back; idempotent."""

    config: Config
    launched: LaunchedMachine
    cgroup: HostCgroup | None
    listener: socket.socket
    host_mounts: int
    """The mount namespace that this process was in at first, as a descriptor."""
    vmm_log: int
    streams: Descriptors
    console: OwnedFd | None
    release: Callable[[], None]
