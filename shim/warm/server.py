"""sampan-warm: a process with everything imported, from which shims and vmms are forked.

Started by the launcher (native/launcher) as `sampan-warm LOCK_FD SOCKET`, for callers
with one environment digest: the same namespaces, cgroup, limits, installation.  Optional:
if there is none with the caller's, the launcher starts Python itself.

Has one thread, no event loop and no gRPC channel, ever: forking needs that.  It only
accepts and forks; a child executes each call, and no sandbox depends on this process.
If the configuration asks for prewarmed machines, it also forks the processes that have
them.  It ends when the code that it has loaded is no longer the installed one.
"""

import fcntl
import gc
import importlib
import os
import pkgutil
import select
import signal
import socket
import sys
import syslog
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from shim.vmm.jail.filters import make_filters
from shim.warm.call import answer_call
from shim.warm.installation import Installation
from shim.warm.pool import Pool, PrewarmRequest
from shim.warm.prewarmed import wait_for_handoff

PROCESS_NAME: Final = "sampan-warm"
LISTEN_BACKLOG: Final = 128
CHECK_S: Final = 60
"""How often an idle server checks whether it is outdated."""
LAZY: Final = ("traceback", "yaml", "encodings.ascii", "encodings.idna", "encodings.latin_1")
"""What our modules and the libraries import when they need it."""


def import_everything() -> None:
    import shim  # noqa: PLC0415

    for module in pkgutil.walk_packages(shim.__path__, "shim."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    for name in LAZY:
        importlib.import_module(name)


def listen(path: str) -> socket.socket:
    """The process that has the lock owns the socket's name."""
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.umask(0o077)
    listener.bind(path)
    listener.listen(LISTEN_BACKLOG)
    return listener


def serve_launchers(listener: socket.socket, lock_fd: int) -> None:
    """Until the installation changes."""
    installation = Installation()
    pool = Pool()

    def fork(work: Callable[[], int]) -> int:
        return fork_child(work, listener, lock_fd)

    while True:
        poll = select.poll()
        pool.register(poll)  # first, so that a call is served by one that has just become ready
        poll.register(listener, select.POLLIN)
        called = [fd for fd, _ in poll.poll(CHECK_S * 1000)]
        if not installation.is_current():
            return
        for fd in called:
            if fd == listener.fileno():
                connection, _ = listener.accept()
                with connection:
                    fork(partial(answer_call, connection, pool))
            elif fd == pool.requests.fileno():
                prewarm(pool, pool.receive_request(), fork)
            else:
                pool.receive_state(fd)


def prewarm(
    pool: Pool, request: PrewarmRequest | None, fork: Callable[[Callable[[], int]], int]
) -> None:
    if request is None:
        return
    for _ in range(pool.make_room(request)):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid = fork(partial(wait_for_handoff, request, theirs, ours, pool))
        if pid:
            pool.add(pid, request, ours)
        else:
            ours.close()


def fork_child(work: Callable[[], int], listener: socket.socket, lock_fd: int) -> int:
    """The child's pid, 0 if there is none; its exit status is what `work` returns."""
    try:
        child = os.fork()
    except OSError as error:
        log_error(f"cannot fork: {error}")
        return 0
    if child == 0:
        become_child(work, listener, lock_fd)
    return child


def become_child(work: Callable[[], int], listener: socket.socket, lock_fd: int) -> NoReturn:
    status = 1
    try:
        # Hazard: with the lock kept open in a sandbox, no next server could start.
        os.close(lock_fd)
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        status = work()
    except BaseException as error:
        log_error(f"{getattr(work, 'func', work).__name__}: {error!r}")
    finally:
        os._exit(status)


def log_error(text: str) -> None:
    syslog.syslog(syslog.LOG_ERR, text)


def main() -> None:
    lock_fd, path = int(sys.argv[1]), sys.argv[2]
    syslog.openlog(PROCESS_NAME)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open("/proc/self/comm", "w") as comm:
            comm.write(PROCESS_NAME)
        # The kernel reaps the children: this process does not wait for them.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        import_everything()
        make_filters(saves=False, logs=False)  # saves each vmm some milliseconds
        gc.collect()
        gc.freeze()
        with listen(path) as listener:
            serve_launchers(listener, lock_fd)
            os.unlink(path)
    except Exception as error:
        log_error(f"{path}: {error!r}")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
