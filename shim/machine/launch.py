"""Starts a vmm and requests a machine of it, before the rest of the shim is loaded.

Synchronous, and imports little: the machine starts while the shim is still
importing its own modules.  `launch_machine` hands everything over to
shim/machine/machine.py.
"""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proto.control import CONTROL_FD
from shim.config import Config
from shim.errors import HostResource
from shim.host.netns import entered
from shim.host.pidns import new_pid_namespace
from shim.host.pids import note_process
from shim.host.spawn import PYTHON, spawn
from shim.machine.boot import ask_to_boot
from shim.machine.directory import SandboxDirectory
from shim.machine.request import LaunchRequest
from shim.machine.shares import ShareTree

StartVmm = Callable[[Config, int, int], int]
"""From the configuration, the control socket and its stderr; returns a child's pid."""
MakeShares = Callable[[SandboxDirectory], ShareTree]
VMM_MODULE: Final = "shim.vmm.process"


@dataclass(frozen=True, slots=True)
class LaunchedMachine:
    """A vmm whose machine is starting: the answer still has to be awaited on `control`."""

    pid: int
    control: socket.socket
    request: LaunchRequest
    shares: ShareTree


Launch = Callable[[LaunchRequest], LaunchedMachine]
"""launch_machine, or what replaces it where machines are prewarmed."""


def launch_machine(
    request: LaunchRequest,
    start_vmm: StartVmm | None = None,
    make_shares: MakeShares = ShareTree.make,
) -> LaunchedMachine:
    """The caller owns the result, with the request's network in it, and reaps the child.

    The vmm is in the network namespace, so that clients that know its pid (CNI, by
    `/proc/<pid>/ns/net`) find the container's network there.
    """
    check_image(request.config)
    network = request.network
    with ExitStack() as undo:
        shares = make_shares(request.sandbox)
        undo.callback(shares.close)
        with entered(network.namespace) if network else nullcontext():
            pid, control = start_process(request, start_vmm or spawn_vmm)
        ask_to_boot(control, request, shares)
        undo.pop_all()
    return LaunchedMachine(pid, control, request, shares)


def start_process(request: LaunchRequest, start_vmm: StartVmm) -> tuple[int, socket.socket]:
    """A vmm's pid and its control socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, new_pid_namespace():
        pid = start_vmm(request.config, theirs.fileno(), request.log_fd)
    if request.config.vmm_cpus:
        pin(pid, request.config.vmm_cpus)
    # It has not been reaped, so the pid is its own even if it has died.
    note_process(request.sandbox.vmm_pid, pid)
    return pid, ours


def spawn_vmm(config: Config, control_fd: int, log_fd: int) -> int:
    """As a program of its own, with the control socket as CONTROL_FD."""
    command = config.vmm_command or (*PYTHON, VMM_MODULE)
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        return spawn(command, environment, log_fd, (control_fd, CONTROL_FD), setpgroup=0)
    except OSError as error:
        raise HostResource(f"{command[0]}: cannot start the vmm: {error.strerror}") from error


def check_image(config: Config) -> None:
    if not Path(config.kernel_path).is_file():
        raise HostResource(
            f"{config.kernel_path}: no guest kernel there; `sampan image build` makes one"
        )
    if not Path(config.image_root).is_dir():
        raise HostResource(
            f"{config.image_root}: no guest image there; `sampan image build` makes one"
        )


def pin(vmm: int, cpus: tuple[int, ...]) -> None:
    """Before it has any thread: it makes them when it gets its boot request."""
    try:
        os.sched_setaffinity(vmm, cpus)
    except ProcessLookupError:
        return  # it has died: the wait for its answer finds that out
    except OSError as error:
        raise HostResource(f"vmm_cpus: {list(cpus)}: {error.strerror}") from error
