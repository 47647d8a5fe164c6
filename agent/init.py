"""PID 1 from its start until it listens.

The order is chosen for start-up time: the sockets listen before gRPC is imported,
so that the host connects once and waits, instead of retrying.  A failure of the
set-up is one line on the console; the guest then reboots, which the host sees as a
crash.
"""

import gc
import os
import resource
import time
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
        with open(f"/proc/sys/{name}", "w") as file:
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
    streams, relay = listen_vsock(contract.STREAM_PORT), listen_vsock(contract.AGENT_PORT)
    # Imported here, as it takes longer than everything before it.
    import asyncio  # noqa: PLC0415

    from agent.clock import HostClock  # noqa: PLC0415
    from agent.server import ServerPaths, serve_agent  # noqa: PLC0415
    from agent.service import GuestInfo  # noqa: PLC0415

    bundle.remove()
    paths = ServerPaths(RUN_DIR, CGROUP_ROOT, f"{RUN_DIR}/agent.sock", streams, relay)
    info = GuestInfo(os.uname().release, started_ns)
    host_clock = HostClock()

    def do_later() -> None:
        # These objects stay alive, and a collection writes to every object that it
        # visits: each clone would copy those pages of the template.
        gc.freeze()
        modules.load_later()
        host_clock.open()

    asyncio.run(serve_agent(paths, info, host_clock, do_later))
