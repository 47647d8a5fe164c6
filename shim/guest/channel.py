"""The gRPC channel to the agent, open only while it is used: the only module of the shim
that imports gRPC.

gRPC's core has threads that wake some ten times a second for as long as there is a
channel.  They end once nothing refers to it any more; a new one takes a millisecond or
two.  So it is closed when no call has been made for a second, and opened by the next
one.  Runs on the event loop, where neither can come in the middle of the other; a
channel in which a call is in flight is never closed but by `close`.
"""

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

# gRPC reads it once, at import: its messages on stderr would be noise in containerd's log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from proto.contract import MAX_GRPC_MESSAGE_BYTES
from proto.gen.agent.v1 import agent_pb2_grpc
from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    GuestFault,
    InvalidArgument,
    NotFound,
    SampanError,
    Unavailable,
    Unimplemented,
)
from shim.text import clean_text

# gRPC logs a traceback for each malformed answer; our own error is logged where it is handled.
logging.getLogger("grpc").setLevel(logging.CRITICAL)

CATEGORIES: Final[dict[grpc.StatusCode, type[SampanError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
}
CLOSED: Final = "the connection with the guest's agent was closed"
IDLE_S: Final = 1.0
"""From the last call's end until the channel is closed."""
CONNECT_RETRY_MS: Final = 20
CONNECT_RETRY_MAX_MS: Final = 100
CONNECT_ATTEMPT_MS: Final = 10_000
"""Until the guest's driver is ready an attempt hangs; then it succeeds or is refused."""
MAX_ANSWER_BYTES: Final = 1 << 20
"""The largest are a container's figures: some KiB."""
OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", CONNECT_RETRY_MS),
    ("grpc.max_reconnect_backoff_ms", CONNECT_RETRY_MAX_MS),
    ("grpc.min_reconnect_backoff_ms", CONNECT_ATTEMPT_MS),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class AgentChannel:
    """Begins to connect when made.  Lifecycle: any calls at once; `close`."""

    def __init__(self, socket_path: str, *, stays_open: bool = False) -> None:
        """`stays_open`: until `close`."""
        self._address = f"unix:{socket_path}"
        self._stays_open = stays_open
        self._calls = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed = False
        self._open()

    async def call(self, name: str, request: Any, timeout_s: float | None) -> Any:
        """The answer.  `timeout_s` None: the caller has a limit of its own."""
        with self._in_use():
            return await self._call(name, request, timeout_s)

    async def call_first(self, name: str, make_request: Callable[[], Any]) -> Any:
        """Calls once there is a connection, so that the time it sends is current."""
        with self._in_use():
            while not self._closed:
                await self._when_open(self._channel.channel_ready)
                try:
                    return await self._call(name, make_request(), None)
                except Unavailable:
                    # The connection was lost again: the guest is still booting.
                    await asyncio.sleep(CONNECT_RETRY_MS / 1000)
        raise Unavailable(CLOSED)

    def prepare(self) -> None:
        """Opens it for a call that will come soon: the connection is set up meanwhile."""
        if not self._closed:
            with self._in_use():
                pass

    async def close(self) -> None:
        """Calls in flight and later ones fail with Unavailable."""
        self._closed = True
        self._cancel_timer()
        await end_channel(self._take())

    @property
    def is_open(self) -> bool:
        return self._channel is not None

    def _open(self) -> None:
        self._channel: Any = grpc.aio.insecure_channel(self._address, options=OPTIONS)
        self._stub: Any = agent_pb2_grpc.AgentStub(self._channel)
        self._channel.get_state(try_to_connect=True)

    @contextmanager
    def _in_use(self) -> Generator[None, None, None]:
        if self._closed:
            raise Unavailable(CLOSED)
        self._cancel_timer()
        if self._channel is None:
            self._open()
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0 and not self._closed and not self._stays_open:
                self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._rest)

    def _rest(self) -> None:
        """A call that comes from now on opens a channel of its own."""
        self._timer = None
        self._ending = asyncio.create_task(end_channel(self._take()))

    def _take(self) -> list[Any]:
        """What is to be ended: in a list, which is emptied, so that nothing else refers to it."""
        channels = [self._channel] if self._channel is not None else []
        self._channel = self._stub = None
        return channels

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _call(self, name: str, request: Any, timeout_s: float | None) -> Any:
        answer = await self._when_open(
            lambda: getattr(self._stub, name)(request, timeout=timeout_s)
        )
        if answer is None:  # gRPC could not parse it
            said = type(request).DESCRIPTOR.name
            raise GuestFault(f"the guest's agent answered {said} with invalid protobuf")
        return answer

    async def _when_open(self, begin: Callable[[], Awaitable[Any]]) -> Any:
        """The result, or an error of ours, which does not refer to the channel."""
        try:
            return await begin()
        except grpc.aio.AioRpcError as error:
            raise describe_failure(error) from error.with_traceback(None)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Hazard: gRPC cancels calls in flight when the channel is closed.  The caller
            # itself is not cancelled, and must get an error.
            raise Unavailable(CLOSED) from None


async def end_channel(channels: list[Any]) -> None:
    """Ends gRPC's threads, too, if it is the last one."""
    if not channels:
        return
    await channels.pop().close()
    # A cycle, of an error and the frames that it came through, may still refer to it.
    gc.collect()


def describe_failure(error: grpc.aio.AioRpcError) -> SampanError:
    category = CATEGORIES.get(error.code())
    details = clean_text(error.details() or "") or error.code().name
    if category is not None:
        return category(details)
    return GuestFault(f"the guest's agent: {error.code().name}: {details}")
