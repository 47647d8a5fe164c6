"""One call of the launcher, executed in a process of its own.

For `start` this process becomes the sandbox's server, and forks its vmm: neither
needs time for Python's start, and memory that they never write to is shared.  If a
process with a prewarmed machine waits, that one becomes the server instead.  A call of the
OCI command line is shim/oci_cli's; its `create` and `run` become servers too.
"""

import os
import socket
from functools import partial

from shim.containerd.start import NewSandbox, become_server, run_command
from shim.host.daemon import read_oom_score
from shim.host.syscalls import set_command_line
from shim.machine.launch import launch_machine
from shim.oci_cli.main import NAME as OCI_NAME
from shim.oci_cli.main import answer_launcher
from shim.warm.fork import fork_vmm
from shim.warm.handoff import hand_off
from shim.warm.pool import Pool
from shim.warm.request import Request, RequestError, receive_request, take_over


def answer_call(connection: socket.socket, pool: Pool) -> int:
    """The process's exit status, which the launcher has been told already."""
    try:
        request = receive_request(connection)
    except RequestError:
        return 1
    take_over(request)
    if request.program == OCI_NAME:
        pool.close()
        launch = partial(launch_machine, start_vmm=fork_vmm)
        answer_launcher(request.arguments, connection, launch)
        return 0
    set_command_line(["containerd-shim-sampan-v2", *request.arguments])
    status = run_command(request.arguments, partial(serve_sandbox, connection, pool, request))
    connection.send(bytes([status]))
    return status


def serve_sandbox(connection: socket.socket, pool: Pool, request: Request, new: NewSandbox) -> None:
    """Returns only if another process is the server."""
    oom_score = read_oom_score(request.caller)
    server = hand_off(pool.list_ready(), new, oom_score, request.arguments)
    if server:
        new.announce(server)
        return
    pool.close()
    new.announce(os.getpid())
    connection.send(bytes([0]))
    connection.close()
    launch = partial(launch_machine, start_vmm=fork_vmm)
    become_server(new, oom_score, launch=launch, request_machine=pool.request_machine)
