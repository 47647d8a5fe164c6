"""What a sandbox's server is told by the process that starts it."""

from collections.abc import Callable
from dataclasses import dataclass

from shim.config import Config
from shim.machine.directory import SandboxDirectory
from shim.machine.launch import Launch
from shim.machine.templates.identity import MachineClass

RequestMachine = Callable[[Config, str, MachineClass], None]
"""Requests a prewarmed machine of this class, with the path of its configuration."""


@dataclass(frozen=True, slots=True)
class ServerArguments:
    namespace: str
    sandbox_id: str
    sandbox: SandboxDirectory
    bundle: str
    events_address: str
    config_path: str
    debug: bool
    log_fd: int
    host_mounts: int
    """The mount namespace that this process was in at first, as a descriptor."""
    launch: Launch
    request_machine: RequestMachine | None = None
