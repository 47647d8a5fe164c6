"""PID 1 from its start until it listens.

The order is chosen for start-up time: the sockets listen before gRPC is imported,
so that the host connects once and waits, instead of retrying.  A failure of the
set-up is one line on the console; the guest then reboots, which the host sees as a
crash.
"""

import os
import resource
import time
from contextlib import suppress
from typing import Final

from agent import bundle, linux, modules
from agent.console import say
from agent.listener import listen_vsock
from agent.mounts import (
    CGROUP_ROOT,
    KERNEL,
    enable_controllers,
    mount_all,
    mount_shares,
)
from agent.network import bring_up
from proto import contract

RUN_DIR: Final = "/run/sampan"
MAX_FILES: Final = 1 << 20
SYSCTLS: Final = {
    "kernel/pid_max": 1 << 22,  # pids are reused as late as possible
    "fs/nr_open": 1073741816,  # containers get the host's limits: allow the highest
    # A program may ask for more memory than the guest has: its limit may allow it,
    # or it never touches it; the host would also grant it.
    "vm/overcommit_memory": 1,
    # Else kcompactd wakes twice a second to see whether there is anything to do.
    "vm/compaction_proactiveness": 0,
    # In seconds.  With 1, which is the default, this work and the scheduler's timer for
    # fair tasks, which each task starts for a second, wake an idle processor in turn.
    "vm/stat_interval": 60,
}


def main() -> None:
    """Never returns."""
    started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    try:
        set_up()
        run_server(started_ns)
        raise RuntimeError("the server ended by itself")
    except BaseException as error:
        say(f"the agent ends and stops the machine: {type(error).__name__}: {error}")
        linux.reboot(linux.RB_AUTOBOOT)


def set_up() -> None:
    os.umask(0o022)
    mount_all(KERNEL)
    open_console()
    modules.load_at_start()
    mount_shares()
    enable_controllers()
    bring_up("lo")
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
    for name, value in SYSCTLS.items():
        # A kernel may have been built without what is to be set.
        with suppress(FileNotFoundError), open(f"/proc/sys/{name}", "w") as file:
            file.write(str(value))


def open_console() -> None:
    """The kernel opens it for PID 1 if it can; 0, 1 and 2 must not become other files."""
    fd = os.open("/dev/console", os.O_RDWR | os.O_CLOEXEC)
    for target in (0, 1, 2):
        if fd != target:
            os.dup2(fd, target)
    if fd > 2:
        os.close(fd)


def run_server(started_ns: int) -> None:
    ports = (contract.AGENT_PORT, contract.STREAM_PORT, contract.EVENTS_PORT)
    relay, streams, events = (listen_vsock(port) for port in ports)
    # Imported here, as it takes longer than everything before it.
    import asyncio  # noqa: PLC0415

    from agent.clock import HostClock  # noqa: PLC0415
    from agent.server import ServerPaths, serve_agent  # noqa: PLC0415
    from agent.service import GuestInfo  # noqa: PLC0415

    bundle.remove()
    paths = ServerPaths(RUN_DIR, CGROUP_ROOT, f"{RUN_DIR}/agent.sock", relay, streams, events)
    info = GuestInfo(os.uname().release, started_ns)
    host_clock = HostClock()

    def do_later() -> None:
        modules.load_later()
        host_clock.open()

    asyncio.run(serve_agent(paths, info, host_clock, do_later))
