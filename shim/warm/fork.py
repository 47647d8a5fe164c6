"""vmms that are forked, from processes that were forked from the warm server."""

import faulthandler
import os
import resource
import signal
import traceback
from typing import NoReturn

from proto.control import CONTROL_FD
from shim.config import Config
from shim.host.syscalls import set_command_line
from shim.machine.launch import spawn_vmm
from shim.vmm.process import PROCESS_NAME
from shim.vmm.process import main as run_vmm


def fork_vmm(config: Config, control_fd: int, log_fd: int) -> int:
    """As launch.spawn_vmm; before this process has a thread."""
    if config.vmm_command:
        return spawn_vmm(config, control_fd, log_fd)
    child = os.fork()
    if child == 0:
        become_vmm(control_fd, log_fd)
    return child


def become_vmm(control_fd: int, log_fd: int) -> NoReturn:
    """Keeps nothing of the shim but its memory.

    Hazard: the shim's objects that own descriptors would close numbers that are the
    vmm's now; none is finalised, since the shim's frames stay until `_exit`.
    """
    status = 1
    try:
        os.setpgid(0, 0)
        faulthandler.unregister(signal.SIGUSR1)
        null = os.open(os.devnull, os.O_RDWR)
        for fd, number in ((null, 0), (null, 1), (log_fd, 2), (control_fd, CONTROL_FD)):
            os.dup2(fd, number)
        os.closerange(CONTROL_FD + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        os.environ.clear()
        set_command_line([PROCESS_NAME])
        run_vmm()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
