"""The control socket of a container's server, both ends.

SOCK_SEQPACKET in the sandbox's directory, which only root enters.  One request for a
connection, JSON, with descriptors by SCM_RIGHTS, and one answer:

    {"op": "kill", "args": {"signal": 15, "all": false}}
    {"result": …}      or      {"error": {"category": "NotFound", "message": "…"}}
"""

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from shim.errors import (
    BY_CATEGORY,
    FailedPrecondition,
    GuestFault,
    HostResource,
    InvalidArgument,
    SampanError,
    Unavailable,
)
from shim.host.fds import OwnedFd, receive_fds

MAX_REQUEST_BYTES: Final = 192 << 10
"""Below what a unix socket takes in one message (net.core.wmem_default, 208 KiB)."""
MAX_FDS: Final = 4
LISTEN_BACKLOG: Final = 16
Handle = Callable[[str, dict[str, Any], list[OwnedFd]], Awaitable[Any]]
"""Operation, arguments, descriptors that are the handler's from then on."""
log = logging.getLogger(__name__)


def ask(path: str, operation: str, arguments: dict[str, Any], fds: Sequence[int] = ()) -> Any:
    """The result.  Blocks for as long as the operation takes."""
    data = json.dumps({"op": operation, "args": arguments}).encode()
    if len(data) > MAX_REQUEST_BYTES:
        raise InvalidArgument(f"{operation}: {len(data)} bytes exceed {MAX_REQUEST_BYTES}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(path)
            socket.send_fds(connection, [data], fds)
            answer = connection.recv(MAX_REQUEST_BYTES)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise FailedPrecondition("container not running") from error
        except OSError as error:
            raise HostResource(f"{path}: {error.strerror}") from error
    if not answer:
        raise Unavailable("the container's server has ended")
    return read_answer(answer)


def read_answer(data: bytes) -> Any:
    answer = json.loads(data)
    if "error" in answer:
        raise BY_CATEGORY[answer["error"]["category"]](answer["error"]["message"])
    return answer["result"]


def listen(path: str) -> socket.socket:
    """Before there is an event loop."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(LISTEN_BACKLOG)
    return listener


class ControlServer:
    """On the event loop.  Owns the listening socket; `close` waits for answers."""

    def __init__(self, listener: socket.socket, handle: Handle) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._answers: set[asyncio.Task[None]] = set()
        self._loop.add_reader(listener, self._accept)

    async def close(self, timeout_s: float) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        if self._answers:
            await asyncio.wait(self._answers, timeout=timeout_s)
        for task in self._answers:
            task.cancel()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        task = asyncio.create_task(self._answer(connection))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _answer(self, connection: socket.socket) -> None:
        with connection:
            await self._wait_readable(connection)
            try:
                data, fds, _ = receive_fds(connection, MAX_REQUEST_BYTES, MAX_FDS)
            except OSError:
                return
            owned = [OwnedFd(number) for number in fds]
            try:
                answer = {"result": await self._perform(data, owned)}
            except SampanError as error:
                failure = {"category": type(error).__name__, "message": str(error)}
                answer = {"error": failure}
            finally:
                for descriptor in owned:
                    descriptor.close()
            try:
                connection.send(json.dumps(answer).encode())
            except OSError as error:
                log.debug("nobody waits for the answer: %s", error)

    async def _perform(self, data: bytes, fds: list[OwnedFd]) -> Any:
        try:
            request = json.loads(data)
            operation, arguments = request["op"], request["args"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(f"no request: {error}") from error
        try:
            return await self._handle(operation, arguments, fds)
        except SampanError:
            raise
        except Exception as error:
            log.exception("unexpected error")
            raise GuestFault(f"{type(error).__name__}: {error}") from error

    async def _wait_readable(self, connection: socket.socket) -> None:
        readable = asyncio.Event()
        self._loop.add_reader(connection, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(connection)
