"""The agent's gRPC server: the only module of the agent that imports gRPC.

Builds everything that serves, in one place, and runs it in one event loop. grpc.aio
imports no more than plain grpc, whose core imports asyncio anyway, and needs no
thread for a call that waits.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from agent import errors
from agent.clock import HostClock
from agent.console import say
from agent.container import SharedParts
from agent.crun import Crun
from agent.oom import OomWatch
from agent.reaper import Reaper
from agent.relay import Relay
from agent.sandbox import Sandbox
from agent.service import AgentService, GuestInfo
from agent.streams import Streams
from agent.watch import FileWatch
from proto import contract
from proto.gen.agent.v1 import agent_pb2

CODES: Final = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RuntimeFailure: grpc.StatusCode.INTERNAL,
}
CANCELLED_WITH_CALLER: Final = frozenset({"WaitProcess"})
"""These only wait. All others finish their work, even if the caller has gone."""
LATER_S: Final = 2
OPTIONS: Final = (
    ("grpc.max_receive_message_length", contract.MAX_GRPC_MESSAGE_BYTES),
    ("grpc.max_send_message_length", contract.MAX_GRPC_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # The relay keeps a connection open for the next client.
    ("grpc.server_handshake_timeout_ms", (1 << 31) - 1),
)

Handler = Callable[[Any, Any], Awaitable[Any]]


class ServerPaths(NamedTuple):
    """Where the server listens and what it uses."""

    run_dir: str
    cgroup_root: str
    grpc_path: str
    """The gRPC server's unix socket, made by it."""
    streams: socket.socket
    """Listening; container stdio."""
    relay: socket.socket | None = None
    """Listening; the relay connects it with grpc_path."""


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
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((make_handlers(service),))
        server.add_insecure_port(f"unix:{paths.grpc_path}")
        await server.start()
        service.listening()
        if paths.relay is not None:
            relay = Relay(paths.relay, paths.grpc_path)
            relay.open()
            owned.callback(relay.close)
        await sandbox.parts.crun.read_version()
        loop.call_later(LATER_S, do_later)
        await stopping.wait()
        await server.stop(grace=None)
        await sandbox.end_all()
        await sandbox.delete_all()


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


def make_handlers(service: AgentService) -> Any:
    """One handler for each method of the .proto; a missing coroutine is an error at
    the start."""
    description = agent_pb2.DESCRIPTOR.services_by_name["Agent"]
    handlers = {}
    for method in description.methods:
        behaviour = getattr(service, method.name)
        codec = {
            "request_deserializer": GetMessageClass(method.input_type).FromString,
            "response_serializer": GetMessageClass(method.output_type).SerializeToString,
        }
        if method.server_streaming:
            handlers[method.name] = grpc.unary_stream_rpc_method_handler(
                make_streaming(behaviour), **codec
            )
        else:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                make_unary(behaviour, method.name), **codec
            )
    return grpc.method_handlers_generic_handler(description.full_name, handlers)


def make_unary(behaviour: Callable[[Any], Awaitable[Any]], name: str) -> Handler:
    async def handle(request: Any, context: Any) -> Any:
        try:
            if name in CANCELLED_WITH_CALLER:
                return await behaviour(request)
            work = asyncio.ensure_future(behaviour(request))
            work.add_done_callback(retrieve_result)
            return await asyncio.shield(work)
        except errors.AgentError as error:
            await context.abort(CODES[type(error)], str(error))
        except Exception as error:
            # An error of the kernel, or a mistake here: it ends this call, never the
            # guest.
            say(f"{name}: {error!r}")
            await context.abort(grpc.StatusCode.INTERNAL, f"{name}: {error}")

    return handle


def make_streaming(behaviour: Callable[[Any], AsyncIterator[Any]]) -> Callable[..., Any]:
    async def handle(request: Any, _: Any) -> AsyncIterator[Any]:
        async for message in behaviour(request):
            yield message

    return handle


def say_exception(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Reports a mistake in a callback in one line, instead of asyncio's many."""
    say(f"{context['message']}: {context.get('exception')!r}")


def retrieve_result(task: "asyncio.Future[Any]") -> None:
    """Fetches the result for a caller that has gone; else asyncio would log a
    warning."""
    if not task.cancelled():
        task.exception()
