"""Builds everything that serves, in one place, and runs it in one event loop."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from agent.clock import HostClock
from agent.console import say
from agent.container import SharedParts
from agent.crun import Crun
from agent.events import Events
from agent.on_demand import LINGER_S
from agent.oom import OomWatch
from agent.reaper import Reaper
from agent.relay import Relay
from agent.rpc import RpcServer
from agent.sandbox import Sandbox
from agent.service import AgentService, GuestInfo
from agent.streams import Streams
from agent.watch import FileWatch

LATER_S: Final = 2


class ServerPaths(NamedTuple):
    """Where the server listens and what it uses."""

    run_dir: str
    cgroup_root: str
    grpc_path: str
    """The gRPC server's unix socket, made by it."""
    relay: socket.socket
    """Listening; the relay connects it with grpc_path."""
    streams: socket.socket
    """Listening; container stdio."""
    events: socket.socket
    """Listening; ends of processes."""
    linger_s: float = LINGER_S
    """How long the gRPC server stays without a connection."""


async def serve_agent(
    paths: ServerPaths,
    info: GuestInfo,
    host_clock: HostClock,
    do_later: Callable[[], None] = lambda: None,
) -> None:
    """Serves until SIGTERM.  `do_later`: work that no container waits for."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(say_exception)
    loop.add_signal_handler(signal.SIGTERM, stopping.set)

    with ExitStack() as owned:
        sandbox = open_sandbox(paths, owned)
        service = AgentService(sandbox, info, host_clock)
        rpc = RpcServer(service, paths.grpc_path)
        relay = Relay(paths.relay, rpc, paths.grpc_path, paths.linger_s)
        await relay.open()
        service.listening()
        events = Events(paths.events, sandbox)
        events.open()
        owned.callback(events.close)
        await sandbox.parts.crun.read_version()
        loop.call_later(LATER_S, settle, do_later)
        await stopping.wait()
        await relay.close()
        await sandbox.end_all()
        await sandbox.delete_all()


def settle(do_later: Callable[[], None]) -> None:
    """These objects stay alive, and a collection writes to every object that it visits:
    each clone would copy those pages of the template.

    Hazard: a cycle that is frozen stays, with all that it refers to, such as a gRPC server.
    """
    gc.collect()
    gc.freeze()
    do_later()


def open_sandbox(paths: ServerPaths, owned: ExitStack) -> Sandbox:
    os.makedirs(paths.run_dir, mode=0o700, exist_ok=True)
    reaper, files, streams = Reaper(), FileWatch(), Streams(paths.streams)
    crun = Crun(reaper, paths.run_dir)
    owned.callback(crun.close)
    for part in (reaper, files, streams):
        part.open()
        owned.callback(part.close)
    parts = SharedParts(
        reaper=reaper,
        crun=crun,
        streams=streams,
        files=files,
        oom=OomWatch(files),
        bundles_dir=f"{paths.run_dir}/bundles",
        cgroup_root=paths.cgroup_root,
    )
    return Sandbox(parts)


def say_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Reports a mistake in a callback in one line, instead of asyncio's many."""
    say(f"{context['message']}: {context.get('exception')!r}")
