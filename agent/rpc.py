"""The agent's gRPC server: the only module of the agent that imports gRPC.

gRPC's core has threads that wake some five times a second for as long as there is a
server, so the server lives only while it is used: agent/on_demand.py.  All of these
threads end once nothing refers to it any more.  Hazard: an exception's traceback
refers to every frame that it came through, so none may come through a handler's.

grpc.aio imports no more than plain grpc, whose core imports asyncio anyway, and needs
no thread for a call that waits.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message_factory import GetMessageClass

from agent import errors
from agent.console import say
from agent.service import AgentService
from proto import contract
from proto.gen.agent.v1 import agent_pb2

CODES: Final = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.RuntimeFailure: grpc.StatusCode.INTERNAL,
}
OPTIONS: Final = (
    ("grpc.max_receive_message_length", contract.MAX_GRPC_MESSAGE_BYTES),
    ("grpc.max_send_message_length", contract.MAX_GRPC_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # The relay keeps a connection open for the next client.
    ("grpc.server_handshake_timeout_ms", (1 << 31) - 1),
)

Behaviour = Callable[[Any], Awaitable[Any]]
Handler = Callable[[Any, Any], Awaitable[Any]]


class RpcServer:
    """start() and stop() in turn, any number of times, in the running loop."""

    def __init__(self, service: AgentService, path: str) -> None:
        self._service = service
        self._path = path
        self._server: Any = None
        self._work: set[asyncio.Future[Any]] = set()
        """Calls that are being served, also those whose caller has gone."""

    async def start(self) -> None:
        server = grpc.aio.server(options=OPTIONS)
        server.add_generic_rpc_handlers((make_handlers(self._service, self._work),))
        server.add_insecure_port(f"unix:{self._path}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Ends every connection, and gRPC's threads.  Calls finish their work."""
        server, self._server = self._server, None
        await server.stop(grace=None)
        del server
        # What an answer or a caller that has gone left in a cycle.
        gc.collect()


def make_handlers(service: AgentService, working: set["asyncio.Future[Any]"]) -> Any:
    """One handler for each method of the .proto; a missing coroutine is an error at
    the start."""
    description = agent_pb2.DESCRIPTOR.services_by_name["Agent"]
    handlers = {}
    for method in description.methods:
        answer = GetMessageClass(method.output_type)
        behaviour = getattr(service, method.name)
        handlers[method.name] = grpc.unary_unary_rpc_method_handler(
            make_unary(behaviour, method.name, answer, working),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=answer.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(description.full_name, handlers)


def make_unary(
    behaviour: Behaviour,
    name: str,
    empty: Callable[[], Any],
    working: set["asyncio.Future[Any]"],
) -> Handler:
    def forget(work: "asyncio.Future[Any]") -> None:
        working.discard(work)
        if not work.cancelled():
            work.exception()  # else asyncio would log it, if the caller has gone

    async def handle(request: Any, context: Any) -> Any:
        work = asyncio.ensure_future(behaviour(request))
        working.add(work)
        work.add_done_callback(forget)
        # It is finished even if the caller has gone, which cancels this.
        await asyncio.wait({work})
        error = work.exception()
        if error is None:
            return work.result()
        code, text = describe(error, name)
        # Not context.abort: its exception would come through this frame.
        context.set_code(code)
        context.set_details(text)
        return empty()

    return handle


def describe(error: BaseException, name: str) -> tuple[Any, str]:
    if isinstance(error, errors.AgentError):
        return CODES[type(error)], str(error)
    # An error of the kernel, or a mistake here: it ends this call, never the guest.
    say(f"{name}: {error!r}")
    return grpc.StatusCode.INTERNAL, f"{name}: {error}"
