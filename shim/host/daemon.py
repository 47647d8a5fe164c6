"""How a process becomes a daemon: streams, OOM score, namespace, end.

Synchronous, before any thread.  `start` imports it (shim/containerd/start.py), and its
time is part of a container's start: no imports that take milliseconds.
"""

import errno
import os
from collections.abc import Callable

TYPE_CHECKING = False  # the one of typing costs an import
if TYPE_CHECKING:
    from typing import NoReturn

OOM_SCORE_MAX = 1000


def exit_after(work: "Callable[[], object]", undo: "Callable[[], object]") -> "NoReturn":
    """Ends this process with `work`; `undo` is called when that fails."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        undo()
    finally:
        os._exit(status)


def enter_directory(path: str, log: str, oom_score: int) -> int:
    """Closes the parent's pipes at once.  Returns a descriptor of `log`, a FIFO there."""
    os.chdir(path)
    log_fd = redirect_standard_streams(log)
    write_oom_score(oom_score)
    return log_fd


def redirect_standard_streams(log_path: str) -> int:
    """stdin and stdout become /dev/null, stderr a FIFO; returns its descriptor."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        # Opened for reading too: so the FIFO needs no reader.
        log = os.open(log_path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        log = os.dup(null)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    return 2


def leave_host(process_name: str) -> int:
    """Enters a new mount namespace; returns a descriptor of the host's."""
    from shim.host import syscalls  # noqa: PLC0415  (ctypes)

    syscalls.set_process_name(process_name)
    syscalls.set_child_subreaper()
    host_mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.enter_mount_namespace()
    return host_mounts


def read_oom_score(pid: int) -> int:
    """One above the score of `pid`, the caller, so that we are killed before it."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
            return min(int(file.read()) + 1, OOM_SCORE_MAX)
    except (OSError, ValueError):
        return 0


def write_oom_score(score: int, process: str = "self") -> None:
    try:
        with open(f"/proc/{process}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ESRCH):
            raise
