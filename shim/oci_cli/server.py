"""A container's server process, from what its caller has left it to its last instruction.

It has the caller's standard streams only until the container has them.  No thread and no
event loop before the machine has been started; then shim/oci_cli/session.py.
"""

import asyncio
import os
from contextlib import ExitStack, suppress
from typing import Final

from shim.config import load_config
from shim.host.capabilities import keep_few_capabilities
from shim.host.cgroup import enter_path, is_unified, read_own
from shim.host.daemon import enter_directory, leave_host, read_oom_score
from shim.host.peer import read_peer_pid
from shim.host.pids import note_process
from shim.log import log_to
from shim.machine.bounds import enter_bounds
from shim.machine.cleanup import clean_up
from shim.machine.directory import SandboxKey
from shim.machine.vmm_log import open_log_pipe
from shim.oci_cli.control import listen
from shim.oci_cli.prepared import NewContainer, PreparedHost
from shim.oci_cli.record import NAMESPACE
from shim.oci_cli.streams import open_console, share_terminal, take_standard_streams
from shim.sandbox.beginning import begin_machine, leave_bounds
from shim.sandbox.plan import plan_machine

SERVER_NAME: Final = "sampan-shim"
STDERR: Final = 2


def serve(new: NewContainer) -> None:
    """Returns when the container has ended.  Raises when it does not come about: nothing
    is left of it then but its record."""
    with ExitStack() as undo:
        host = begin(new, undo)
        keep_few_capabilities()
        # gRPC takes long to import: the guest boots meanwhile.
        from shim.oci_cli.session import Session  # noqa: PLC0415

        asyncio.run(Session(new, host).run())


def begin(new: NewContainer, undo: ExitStack) -> PreparedHost:
    sandbox, options = new.sandbox, new.options
    clean_up(sandbox, 0)  # what one of this name has left that was killed
    undo.callback(sandbox.remove)
    sandbox.create(SandboxKey(new.record.root, NAMESPACE, new.record.id))
    note_process(sandbox.shim_pid, os.getpid())
    listener = listen(sandbox.socket)
    launcher = read_peer_pid(new.call.connection)
    config = load_config()
    console = open_console(options.console_socket) if options.console_socket else None
    streams = share_terminal(console) if console else take_standard_streams()
    become_daemon(new.record.log, launcher)
    log_to(STDERR, "debug" if "debug" in new.call.line.general.truths else config.log_level)
    host_mounts = leave_host(SERVER_NAME)
    plan = plan_machine(new.record.bundle, config, NAMESPACE)
    enter_origin(plan.bounds.cgroup, launcher)
    cgroup = enter_bounds(plan.bounds, sandbox)
    undo.callback(leave_bounds, cgroup)
    vmm_log, vmm_stderr = open_log_pipe()
    launched = begin_machine(config, sandbox, plan, vmm_stderr, new.call.launch)
    os.close(vmm_stderr)  # the vmm has its own copy
    return PreparedHost(
        config=config,
        launched=launched,
        cgroup=cgroup,
        listener=listener,
        host_mounts=host_mounts,
        vmm_log=vmm_log,
        streams=streams,
        console=console,
        release=undo.close,
    )


def become_daemon(log: str, launcher: int) -> None:
    """Its own streams are none of the caller's from here on."""
    os.setsid()
    os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    enter_directory("/", log, read_oom_score(launcher))


def enter_origin(named: str, launcher: int) -> None:
    """`named`: the cgroup that the spec names, if any.

    A process of the warm server's is not in its caller's cgroup, where a container without
    a cgroup of its own belongs.  With one, the server returns to the root at the end: the
    caller's may be gone by then.
    """
    if not is_unified():
        return
    path = "" if named else read_own(str(launcher))
    with suppress(OSError):  # the root of a container's hierarchy takes no processes
        if path != read_own():
            enter_path(path)
