"""A clone that is ready to run before anybody asks for it.

`hold_machine` makes it in a sandbox of its own, `start_held` gives it to the sandbox
of a container, whose namespace of networks and log its vmm then has.  A clone that is
held has not run: its randomness and its clock are set when it does, as any clone's.
"""

import hashlib
import json
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final

from shim.config import Config
from shim.machine.boot import ask_to_hold, ask_to_start, wait_held
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

PATIENCE_S: Final = 60.0
"""For a vmm to have it ready."""


@dataclass(frozen=True, slots=True)
class HeldMachine:
    """Owns `control` and `shares`."""

    pid: int
    control: socket.socket
    request: LaunchRequest
    """Of the sandbox that it waits in."""
    shares: ShareTree

    def close(self) -> None:
        """The vmm ends."""
        self.control.close()
        self.shares.close()


def name_held(config: Config, machine_class: MachineClass, template: str) -> str:
    """The same for machines that can stand in for each other."""
    parts = [asdict(config), asdict(machine_class), template, read_number(template)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def hold_machine(
    request: LaunchRequest, start_vmm: StartVmm, make_shares: MakeShares = ShareTree.make
) -> HeldMachine:
    """HostResource when the template is no good; nothing is left then."""
    check_image(request.config)
    with ExitStack() as undo:
        shares = make_shares(request.sandbox)
        undo.callback(shares.close)
        pid, control = start_process(request, start_vmm)
        undo.callback(control.close)
        ask_to_hold(control, request, shares)
        wait_held(control, request.template, PATIENCE_S)
        undo.pop_all()
    return HeldMachine(pid, control, request, shares)


def start_held(held: HeldMachine, request: LaunchRequest) -> LaunchedMachine:
    """As launch_machine; the sandbox that it was held in is no more afterwards.

    HostResource when it has ended; nothing is changed then.
    """
    ask_to_start(held.control, request)
    held.shares.scratch = request.sandbox.scratch
    request.sandbox.take_over(held.request.sandbox)
    return LaunchedMachine(held.pid, held.control, request, held.shares)
