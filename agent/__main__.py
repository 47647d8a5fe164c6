"""`python -m agent --grpc PATH --streams PATH --run-dir DIR`: the agent outside a guest.

For tests: serves on unix sockets until SIGTERM, without setting up a guest.  Needs root,
crun and a cgroup2 mount.  In a guest, agent/init.py runs.
"""

import argparse
import asyncio
import os
import time

from agent import linux
from agent.clock import HostClock
from agent.listener import listen_unix
from agent.mounts import CGROUP_ROOT
from agent.server import ServerPaths, serve_agent
from agent.service import GuestInfo


def main() -> None:
    parser = argparse.ArgumentParser(prog="agent")
    parser.add_argument("--grpc", required=True, help="unix socket of the gRPC server")
    parser.add_argument("--streams", required=True, help="unix socket of the stdio streams")
    parser.add_argument("--relay", help="unix socket joined with the gRPC server's")
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--cgroup-root", default=CGROUP_ROOT)
    arguments = parser.parse_args()
    linux.become_subreaper()
    paths = ServerPaths(
        run_dir=arguments.run_dir,
        cgroup_root=arguments.cgroup_root,
        grpc_path=arguments.grpc,
        streams=listen_unix(arguments.streams),
        relay=listen_unix(arguments.relay) if arguments.relay else None,
    )
    info = GuestInfo(os.uname().release, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
    asyncio.run(serve_agent(paths, info, HostClock()))


main()
