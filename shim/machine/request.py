"""A sandbox's request for a machine."""

from dataclasses import dataclass

from shim.config import Config
from shim.machine.directory import SandboxDirectory
from shim.machine.namespace import PreparedNetwork
from shim.machine.templates.identity import MachineClass


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A machine for a sandbox; owns none of its descriptors."""

    config: Config
    sandbox: SandboxDirectory
    machine_class: MachineClass
    log_fd: int
    network: PreparedNetwork | None = None
    template: str = ""
    """The directory of the one to restore; "" to boot."""
    saves: bool = False
    """As of MachineConfig."""
