"""The request for a machine: the first on a vmm's control socket, and its answer.

Sent before there is an event loop.  A process that prewarms a machine waits for the
answer without one; all others through shim/machine/control.py.  proto/control.py has
the messages.
"""

import json
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from proto.contract import AGENT_PORT, IMAGE_TAG, ROOTFS_TAG, VOLUMES_TAG
from proto.control import (
    MAX_PACKET_BYTES,
    SHARED_IMAGE,
    SHARED_ROOTFS,
    SHARED_VOLUMES,
    MachineConfig,
    Operation,
    Share,
    SharePolicy,
)
from shim.errors import HostResource
from shim.machine.directory import SandboxDirectory
from shim.machine.messages import Answer, ProtocolFault, parse_message
from shim.machine.request import LaunchRequest
from shim.machine.shares import ShareTree

if TYPE_CHECKING:
    import asyncio

    from shim.machine.control import ControlSocket

REQUEST_ID: Final = 1
LISTEN_BACKLOG: Final = 8
HOSTNAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
DEFAULT_HOSTNAME: Final = "sampan"
"""Used if the host's name cannot stand in a kernel's command line."""


def ask_to_boot(control: socket.socket, request: LaunchRequest, shares: ShareTree) -> None:
    """If the vmm has died already, the wait for its answer finds that out."""
    ask_for_machine(control, Operation.BOOT, request, shares)


def ask_to_prewarm(control: socket.socket, request: LaunchRequest, shares: ShareTree) -> None:
    ask_for_machine(control, Operation.PREWARM, request, shares)


def ask_to_start(control: socket.socket, request: LaunchRequest) -> None:
    """Starts a prewarmed machine.  HostResource when its vmm has ended."""
    fds = [request.log_fd]
    if request.network:
        fds.append(request.network.namespace)
    try:
        send_request(control, Operation.START, {}, fds)
    except OSError as error:
        raise HostResource(f"the vmm has ended: {error}") from error


def wait_prewarmed(control: socket.socket, template: str, timeout_s: float) -> None:
    """HostResource when the template cannot be used, or the vmm does not answer."""
    control.settimeout(timeout_s)
    try:
        packet = control.recv(MAX_PACKET_BYTES)
    except OSError as error:
        raise HostResource(f"the vmm does not answer: {error}") from error
    control.settimeout(None)
    if not packet:
        raise HostResource("the vmm has ended")
    answer = read_answer(packet)
    if answer.error is not None:
        raise HostResource(f"template {template}: {answer.error}")


def read_answer(packet: bytes) -> Answer:
    try:
        message = parse_message(packet)
    except ProtocolFault as error:
        raise HostResource(f"the vmm broke the protocol of its control socket: {error}") from error
    if not isinstance(message, Answer):
        raise HostResource(
            "the vmm broke the protocol of its control socket: an event before its answer"
        )
    return message


def expect_boot(control: "ControlSocket") -> "asyncio.Future[Any]":
    """BootResult's fields, after ask_to_boot or ask_to_start."""
    return control.expect(REQUEST_ID)


def ask_for_machine(
    control: socket.socket, operation: Operation, request: LaunchRequest, shares: ShareTree
) -> None:
    described = describe_machine(request).to_json()
    with listen_for_agent(request.sandbox) as listener, suppress(BrokenPipeError):
        send_request(control, operation, described, [listener.fileno(), shares.shared])


def send_request(
    control: socket.socket,
    operation: Operation,
    arguments: dict[str, Any],
    fds: Sequence[int],
) -> None:
    request = {"id": REQUEST_ID, "op": operation, "args": arguments}
    socket.send_fds(control, [json.dumps(request).encode()], fds)


def listen_for_agent(sandbox: SandboxDirectory) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(sandbox.agent_socket)
    listener.listen(LISTEN_BACKLOG)
    return listener


def describe_machine(request: LaunchRequest) -> MachineConfig:
    config, sandbox, machine_class = request.config, request.sandbox, request.machine_class
    return MachineConfig(
        vcpus=machine_class.size.vcpus,
        memory_bytes=machine_class.size.memory_bytes,
        kernel_path=config.kernel_path,
        console_path=sandbox.console,
        shares=(
            Share(IMAGE_TAG, SHARED_IMAGE, SharePolicy.IMAGE),
            Share(ROOTFS_TAG, SHARED_ROOTFS, SharePolicy.EXCLUSIVE),
            Share(VOLUMES_TAG, SHARED_VOLUMES, SharePolicy.SHARED),
        ),
        ports=(AGENT_PORT,),
        nics=machine_class.nics,
        kernel_arguments=f"hostname={read_hostname()} {config.kernel_arguments}".rstrip(),
        console_limit_bytes=config.console_limit_bytes,
        template=request.template,
        root_path=sandbox.tree,
        image_path=config.image_root,
        jail=config.jail,
        saves=request.saves,
    )


def read_hostname() -> str:
    """The host's name: under runc too it is that of a container without a name of its own."""
    name = os.uname().nodename
    return name if HOSTNAME.fullmatch(name) else DEFAULT_HOSTNAME
