"""Prewarmed machines: clones that are complete before a container needs them.

`prewarm_machine` makes one in a sandbox of its own; `start_prewarmed` gives it to a container's
sandbox, whose network namespace and log its vmm then has.  It has not run until then:
its randomness and its clock are set when it starts, as any clone's.
"""

import hashlib
import json
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final

from shim.config import Config
from shim.machine.boot import ask_to_prewarm, ask_to_start, wait_prewarmed
from shim.machine.launch import (
    LaunchedMachine,
    MakeShares,
    StartVmm,
    check_image,
    start_process,
)
from shim.machine.request import LaunchRequest
from shim.machine.shares import ShareTree
from shim.machine.templates.identity import MachineClass, read_number

TIMEOUT_S: Final = 60.0
"""For a vmm to complete it."""


@dataclass(frozen=True, slots=True)
class PrewarmedMachine:
    """Owns `control` and `shares`."""

    pid: int
    control: socket.socket
    request: LaunchRequest
    """That of its own sandbox."""
    shares: ShareTree

    def close(self) -> None:
        """The vmm ends."""
        self.control.close()
        self.shares.close()


def name_prewarmed(config: Config, machine_class: MachineClass, template: str) -> str:
    """The same for machines that are interchangeable."""
    parts = [asdict(config), asdict(machine_class), template, read_number(template)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def prewarm_machine(
    request: LaunchRequest, start_vmm: StartVmm, make_shares: MakeShares = ShareTree.make
) -> PrewarmedMachine:
    """HostResource when the template cannot be used; nothing is left then."""
    check_image(request.config)
    with ExitStack() as undo:
        shares = make_shares(request.sandbox)
        undo.callback(shares.close)
        pid, control = start_process(request, start_vmm)
        undo.callback(control.close)
        ask_to_prewarm(control, request, shares)
        wait_prewarmed(control, request.template, TIMEOUT_S)
        undo.pop_all()
    return PrewarmedMachine(pid, control, request, shares)


def start_prewarmed(prewarmed: PrewarmedMachine, request: LaunchRequest) -> LaunchedMachine:
    """As launch_machine; removes the machine's former sandbox.

    HostResource when the machine has ended; nothing is changed then.
    """
    ask_to_start(prewarmed.control, request)
    prewarmed.shares.scratch = request.sandbox.scratch
    request.sandbox.take_over(prewarmed.request.sandbox)
    return LaunchedMachine(prewarmed.pid, prewarmed.control, request, prewarmed.shares)
