"""One call of the launcher, done in a process of its own.

`start` has this very process become the sandbox's server, and that forks its
vmm: neither pays for Python's start, and what they never write to is shared.
"""

import faulthandler
import os
import resource
import signal
import socket
import traceback
from functools import partial
from typing import NoReturn

from proto.control import CONTROL_FD
from shim.bootstrap import Beginning, act, become_server, read_oom_score
from shim.config import Config
from shim.host.syscalls import set_command_line
from shim.machine.launch import spawn_vmm
from shim.vmm.process import PROCESS_NAME
from shim.vmm.process import main as run_vmm
from shim.warm.request import RequestError, receive_request, take_over


def answer_call(connection: socket.socket) -> int:
    """The process's exit status, which the launcher has been told already."""
    try:
        request = receive_request(connection)
    except RequestError:
        return 1
    take_over(request)
    set_command_line(["containerd-shim-sampan-v2", *request.arguments])
    status = act(request.arguments, partial(serve_here, connection, request.caller))
    connection.send(bytes([status]))
    return status


def serve_here(connection: socket.socket, caller: int, beginning: Beginning) -> None:
    """Does not return."""
    oom_score = read_oom_score(caller)
    beginning.announce(os.getpid())
    connection.send(bytes([0]))
    connection.close()
    become_server(beginning, oom_score, fork_vmm)


def fork_vmm(config: Config, control_fd: int, log_fd: int) -> int:
    """As launch.spawn_vmm; before this process has a thread."""
    if config.vmm_command:
        return spawn_vmm(config, control_fd, log_fd)
    child = os.fork()
    if child == 0:
        become_vmm(control_fd, log_fd)
    return child


def become_vmm(control_fd: int, log_fd: int) -> NoReturn:
    """Nothing of the shim's goes on but its memory.

    Hazard: objects of the shim's that own descriptors would close numbers that are the
    vmm's now; none is finalised, for the shim's frames stay until `_exit`.
    """
    status = 1
    try:
        os.setpgid(0, 0)
        faulthandler.unregister(signal.SIGUSR1)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor, number in ((null, 0), (null, 1), (log_fd, 2), (control_fd, CONTROL_FD)):
            os.dup2(descriptor, number)
        os.closerange(CONTROL_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.environ.clear()
        set_command_line([PROCESS_NAME])
        run_vmm()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
