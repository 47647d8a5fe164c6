"""Starts a vmm and asks it to boot, before anything else of the shim is there.

Synchronous, and imports little: the machine comes up while the shim is still
importing its own modules.  `launch_machine` hands everything over to
shim/machine/machine.py.
"""

import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proto.contract import AGENT_PORT, IMAGE_TAG, ROOTFS_TAG, VOLUMES_TAG
from proto.control import (
    CONTROL_FD,
    SHARED_IMAGE,
    SHARED_ROOTFS,
    SHARED_VOLUMES,
    MachineConfig,
    Operation,
    Share,
    SharePolicy,
    count_pairs,
)
from shim.config import Config
from shim.errors import HostResource
from shim.host.netns import entered, list_links, make_namespace, open_namespace
from shim.host.pidns import new_pid_namespace
from shim.host.process import note_process
from shim.host.spawn import PYTHON, spawn
from shim.machine.directory import SandboxDirectory
from shim.machine.shares import ShareTree
from shim.machine.templates.identity import MachineClass
from shim.net.plan import MAX_NICS

StartVmm = Callable[[Config, int, int], int]
"""Of the configuration, the control socket and what is to be its stderr; a child's pid."""
MakeShares = Callable[[SandboxDirectory], ShareTree]
BOOT_REQUEST_ID: Final = 1
LISTEN_BACKLOG: Final = 8
HOSTNAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
DEFAULT_HOSTNAME: Final = "sampan"
"""Where the host's would not pass on a kernel's command line."""
VMM_MODULE: Final = "shim.vmm.process"


@dataclass(frozen=True, slots=True)
class PreparedNetwork:
    """The namespace that a machine is the inhabitant of, as an open descriptor."""

    namespace: int
    path: str
    """Of somebody else's; "" for one made here."""
    nics: int
    queues: int = 1
    """Pairs of them for each."""
    vhost: bool = False
    """The host's kernel moves the packets, if it can."""


@dataclass(frozen=True, slots=True)
class LaunchedMachine:
    """A vmm that is booting; the boot request is BOOT_REQUEST_ID on `control`."""

    pid: int
    control: socket.socket
    network: PreparedNetwork | None
    machine_class: MachineClass
    template: str
    """That it was to go on from; "" to boot."""
    shares: ShareTree


def count_nics(path: str | None, config: Config) -> int:
    """Of a machine in the namespace `path`; "" is a new one, None no network."""
    if path is None:
        return 0
    found = 0
    if path:
        namespace = open_namespace(path)
        try:
            found = len(list_links(namespace))
        finally:
            os.close(namespace)
    return min(max(config.nics, found), MAX_NICS)


def prepare_network(
    path: str | None, config: Config, machine_class: MachineClass
) -> PreparedNetwork | None:
    """As count_nics has it; None for a container that is to have none of its own."""
    if path is None:
        return None
    namespace = open_namespace(path) if path else make_namespace()
    pairs = count_pairs(machine_class.size.vcpus)
    vhost = config.vhost_net == "auto"
    return PreparedNetwork(namespace, path, machine_class.nics, pairs, vhost)


def spawn_vmm(config: Config, control_fd: int, log_fd: int) -> int:
    """A program of its own; its control socket is CONTROL_FD."""
    command = config.vmm_command or (*PYTHON, VMM_MODULE)
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        return spawn(command, environment, log_fd, (control_fd, CONTROL_FD), setpgroup=0)
    except OSError as error:
        raise HostResource(f"{command[0]}: cannot start the vmm: {error.strerror}") from error


def launch_machine(
    config: Config,
    sandbox: SandboxDirectory,
    machine_class: MachineClass,
    log_fd: int,
    network: PreparedNetwork | None = None,
    template: str = "",
    start_vmm: StartVmm = spawn_vmm,
    make_shares: MakeShares = ShareTree.make,
    saves: bool = False,
) -> LaunchedMachine:
    """The caller owns the result, which has `network` in it, and reaps the child.

    The vmm is in the namespace, so that whoever is told its pid (CNI, by
    `/proc/<pid>/ns/net`) finds the container's network there.  `template`: the
    directory of one to go on from; "" to boot.  `saves`: as of MachineConfig.
    """
    check_image(config)
    with ExitStack() as undo:
        shares = make_shares(sandbox)
        undo.callback(shares.close)
        with entered(network.namespace) if network else nullcontext():
            pid, control = start_process(config, sandbox, log_fd, start_vmm)
        described = describe_machine(config, sandbox, machine_class, template, saves)
        ask_first(control, sandbox, Operation.BOOT, described, shares)
        undo.pop_all()
    return LaunchedMachine(pid, control, network, machine_class, template, shares)


def start_process(
    config: Config, sandbox: SandboxDirectory, log_fd: int, start_vmm: StartVmm
) -> tuple[int, socket.socket]:
    """A vmm's pid and its control socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, new_pid_namespace():
        pid = start_vmm(config, theirs.fileno(), log_fd)
    if config.vmm_cpus:
        pin(pid, config.vmm_cpus)
    # It has not been reaped, so the pid is its own even if it has died.
    note_process(sandbox.vmm_pid, pid)
    return pid, ours


def ask_first(
    control: socket.socket,
    sandbox: SandboxDirectory,
    operation: Operation,
    machine: MachineConfig,
    shares: ShareTree,
) -> None:
    """For the machine; BOOT_REQUEST_ID."""
    request = {"id": BOOT_REQUEST_ID, "op": operation, "args": machine.to_json()}
    # A vmm that has died already is found out by whoever waits for its answer.
    with listen_for_agent(sandbox) as listener, suppress(BrokenPipeError):
        descriptors = [listener.fileno(), shares.shared]
        socket.send_fds(control, [json.dumps(request).encode()], descriptors)


def check_image(config: Config) -> None:
    if not Path(config.kernel_path).is_file():
        raise HostResource(
            f"{config.kernel_path}: no guest kernel there; `sampan image build` makes one"
        )
    if not Path(config.image_root).is_dir():
        raise HostResource(
            f"{config.image_root}: no guest image there; `sampan image build` makes one"
        )


def listen_for_agent(sandbox: SandboxDirectory) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(sandbox.agent_socket)
    listener.listen(LISTEN_BACKLOG)
    return listener


def describe_machine(
    config: Config,
    sandbox: SandboxDirectory,
    machine_class: MachineClass,
    template: str = "",
    saves: bool = False,
) -> MachineConfig:
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
        template=template,
        place=sandbox.tree,
        image_path=config.image_root,
        jail=config.jail,
        saves=saves,
    )


def read_hostname() -> str:
    """The host's name, which a container without one of its own has under runc too."""
    name = os.uname().nodename
    return name if HOSTNAME.fullmatch(name) else DEFAULT_HOSTNAME


def pin(vmm: int, cpus: tuple[int, ...]) -> None:
    """Before it has any thread: it makes them when it gets its boot request."""
    try:
        os.sched_setaffinity(vmm, cpus)
    except ProcessLookupError:
        return  # found out by whoever waits for its answer
    except OSError as error:
        raise HostResource(f"vmm_cpus: {list(cpus)}: {error.strerror}") from error
