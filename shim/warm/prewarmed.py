"""A process that waits with a prewarmed machine, and then serves a sandbox.

Forked from the warm server.  It ends with that; after some time without a request; or
when its vmm ends.  Its machine has a sandbox directory of its own; if the process is
killed, the next one removes that.
"""

import os
import select
import signal
import socket
import syslog
from functools import partial
from typing import Final, NoReturn, Self

from shim.config import load_config
from shim.containerd.server import run_server
from shim.containerd.server_arguments import ServerArguments
from shim.containerd.start import LOG_FIFO, SERVER_NAME
from shim.errors import HostResource, SampanError
from shim.host.daemon import (
    OOM_SCORE_MAX,
    enter_directory,
    exit_after,
    leave_host,
    write_oom_score,
)
from shim.host.pids import is_alive, load_identity, note_process
from shim.host.syscalls import set_command_line, set_process_name
from shim.machine.cleanup import clean_up
from shim.machine.directory import (
    STATE_VARIABLE,
    SandboxDirectory,
    SandboxKey,
    find_sandbox,
    list_sandboxes,
)
from shim.machine.launch import LaunchedMachine, launch_machine
from shim.machine.prewarmed import (
    PrewarmedMachine,
    name_prewarmed,
    prewarm_machine,
    start_prewarmed,
)
from shim.machine.request import LaunchRequest
from shim.machine.templates.identity import find_template
from shim.warm.fork import fork_vmm
from shim.warm.handoff import Handoff, receive_handoff
from shim.warm.pool import READY, Pool, PrewarmRequest

PROCESS_NAME: Final = "sampan-prewarm"
CONTAINERD: Final = "sampan"
NAMESPACE: Final = "ready"
WAIT_S: Final = 600.0
MEMINFO_KIB: Final = 1024


def wait_for_handoff(
    request: PrewarmRequest, connection: socket.socket, server: socket.socket, pool: Pool
) -> int:
    """`server`: the other end of `connection`, of which this process has a copy."""
    server.close()
    pool.close()
    os.environ[STATE_VARIABLE] = request.state_dir
    os.setsid()
    signal.signal(signal.SIGTERM, give_up)
    write_oom_score(OOM_SCORE_MAX)  # it can be killed without loss
    host_mounts = leave_host(SERVER_NAME)
    sandbox = make_sandbox()
    try:
        with IdleMachine(request, sandbox) as idle:
            connection.send(READY)
            set_process_name(PROCESS_NAME)
            while idle.is_requested(connection):
                with receive_handoff(connection) as received:
                    if received is not None:
                        connection.close()
                        serve_and_exit(*received, idle, host_mounts, pool)
    except EOFError:
        pass
    except SampanError as error:
        syslog.syslog(syslog.LOG_WARNING, f"no machine is prewarmed: {error}")
    finally:
        sandbox.remove()
    return 0


def give_up(*_: object) -> NoReturn:
    raise EOFError


class IdleMachine:
    """A prewarmed machine until a sandbox gets it, or it ends."""

    def __init__(self, request: PrewarmRequest, sandbox: SandboxDirectory) -> None:
        self.name = request.name
        self.sandbox = sandbox
        self.machine = prewarm(request, sandbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close()

    def is_requested(self, connection: socket.socket) -> bool:
        """False when it is time to end."""
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self.machine.control, select.POLLIN)
        return [fd for fd, _ in poll.poll(WAIT_S * 1000)] == [connection.fileno()]

    def launch(self, request: LaunchRequest) -> LaunchedMachine:
        """As launch_machine, which is called if this machine does not fit the request."""
        if name_prewarmed(request.config, request.machine_class, request.template) == self.name:
            try:
                return start_prewarmed(self.machine, request)
            except HostResource as error:
                syslog.syslog(syslog.LOG_WARNING, f"a prewarmed machine could not be used: {error}")
        self.machine.close()
        self.sandbox.remove()
        return launch_machine(request, fork_vmm)


def serve_and_exit(
    handoff: Handoff, listener: socket.socket, idle: IdleMachine, host_mounts: int, pool: Pool
) -> None:
    """Does not return."""
    sandbox = SandboxDirectory(handoff.sandbox)
    serve = partial(serve_handoff, handoff, sandbox, listener, idle, host_mounts, pool)
    exit_after(serve, sandbox.remove)


def serve_handoff(
    handoff: Handoff,
    sandbox: SandboxDirectory,
    listener: socket.socket,
    idle: IdleMachine,
    host_mounts: int,
    pool: Pool,
) -> None:
    os.environ.clear()
    os.environ.update(handoff.environment)
    set_process_name(SERVER_NAME)
    set_command_line(["containerd-shim-sampan-v2", *handoff.arguments])
    log_fd = enter_directory(handoff.described["bundle"], LOG_FIFO, handoff.oom_score)
    write_oom_score(handoff.oom_score, str(idle.machine.pid))
    arguments = ServerArguments(
        **handoff.described,
        sandbox=sandbox,
        log_fd=log_fd,
        host_mounts=host_mounts,
        launch=idle.launch,
        request_machine=pool.request_machine,
    )
    run_server(arguments, listener)


def prewarm(request: PrewarmRequest, sandbox: SandboxDirectory) -> PrewarmedMachine:
    """HostResource if the host lacks the memory, or the requested template is gone."""
    config = load_config(request.config_path or None)
    template = find_template(config, request.machine_class)
    if name_prewarmed(config, request.machine_class, template) != request.name:
        raise HostResource("the template or the configuration has changed")
    if not is_shared_mount("/"):
        raise HostResource("/ is not a shared mount: what is mounted later would not be seen")
    available = read_available_bytes()
    if available < request.memory_bytes:
        raise HostResource(f"{available} bytes of memory are available, not {request.memory_bytes}")
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        launch = LaunchRequest(config, sandbox, request.machine_class, null, template=template)
        return prewarm_machine(launch, fork_vmm)
    finally:
        os.close(null)


def make_sandbox() -> SandboxDirectory:
    """This process's own; those of processes that were killed are removed."""
    for key, left in list_sandboxes():
        if (key.containerd, key.namespace) == (CONTAINERD, NAMESPACE):
            owner = load_identity(left.shim_pid)
            if not (is_alive(owner) if owner else os.path.exists(f"/proc/{key.sandbox_id}")):
                clean_up(left, 0)
    key = SandboxKey(CONTAINERD, NAMESPACE, str(os.getpid()))
    sandbox = find_sandbox(key)
    sandbox.create(key)
    note_process(sandbox.shim_pid, os.getpid())
    return sandbox


def is_shared_mount(path: str) -> bool:
    """Whether mounts below it reach other mount namespaces (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        lines = (line.split() for line in file)
        return any(
            field.startswith(("shared:", "master:"))
            for words in lines
            if words[4] == path
            for field in words[6 : words.index("-")]
        )


def read_available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * MEMINFO_KIB
    return 0
