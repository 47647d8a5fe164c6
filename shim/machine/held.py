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

from proto.control import MAX_PACKET_BYTES, Operation
from shim.config import Config
from shim.errors import HostResource
from shim.machine.directory import SandboxDirectory
from shim.machine.launch import (
    BOOT_REQUEST_ID,
    LaunchedMachine,
    MakeShares,
    PreparedNetwork,
    StartVmm,
    ask_first,
    check_image,
    describe_machine,
    start_process,
)
from shim.machine.messages import Answer, ProtocolFault, parse_message
from shim.machine.shares import ShareTree
from shim.machine.templates.identity import MachineClass, read_number

PATIENCE_S: Final = 60.0
"""For a vmm to have it ready."""


@dataclass(frozen=True, slots=True)
class HeldMachine:
    """Owns `control` and `shares`."""

    pid: int
    control: socket.socket
    machine_class: MachineClass
    template: str
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
    config: Config,
    sandbox: SandboxDirectory,
    machine_class: MachineClass,
    template: str,
    log_fd: int,
    start_vmm: StartVmm,
    make_shares: MakeShares = ShareTree.make,
) -> HeldMachine:
    """HostResource when the template is no good; nothing is left then."""
    check_image(config)
    with ExitStack() as undo:
        shares = make_shares(sandbox)
        undo.callback(shares.close)
        pid, control = start_process(config, sandbox, log_fd, start_vmm)
        undo.callback(control.close)
        described = describe_machine(config, sandbox, machine_class, template)
        ask_first(control, sandbox, Operation.HOLD, described, shares)
        control.settimeout(PATIENCE_S)
        answer = read_answer(control)
        control.settimeout(None)
        if answer.error is not None:
            raise HostResource(f"template {template}: {answer.error}")
        undo.pop_all()
    return HeldMachine(pid, control, machine_class, template, shares)


def read_answer(control: socket.socket) -> Answer:
    try:
        packet = control.recv(MAX_PACKET_BYTES)
    except OSError as error:
        raise HostResource(f"the vmm does not answer: {error}") from error
    if not packet:
        raise HostResource("the vmm has ended")
    try:
        message = parse_message(packet)
    except ProtocolFault as error:
        raise HostResource(f"the vmm breaks the protocol: {error}") from error
    if not isinstance(message, Answer):
        raise HostResource("the vmm breaks the protocol: an event before its answer")
    return message


def start_held(
    held: HeldMachine,
    held_in: SandboxDirectory,
    sandbox: SandboxDirectory,
    network: PreparedNetwork | None,
    log_fd: int,
) -> LaunchedMachine:
    """As launch_machine; `held_in` is no more afterwards.

    HostResource when it has ended; nothing is changed then.
    """
    request = {"id": BOOT_REQUEST_ID, "op": Operation.START, "args": {}}
    descriptors = [log_fd, network.namespace] if network else [log_fd]
    try:
        socket.send_fds(held.control, [json.dumps(request).encode()], descriptors)
    except OSError as error:
        raise HostResource(f"the vmm has ended: {error}") from error
    held.shares.scratch = sandbox.scratch
    sandbox.take_over(held_in)
    return LaunchedMachine(
        held.pid, held.control, network, held.machine_class, held.template, held.shares
    )
