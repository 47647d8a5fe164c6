"""The vmm's end of the control socket: packets in, answers and events out.

Owns the socket and every descriptor that arrives until a handler takes it.
Decides nothing: `process` knows what an operation does.
Contract: proto/control.py.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from proto.control import MAX_PACKET_BYTES, MAX_PACKET_FDS, Event
from shim.errors import InvalidArgument, SampanError
from shim.host.fds import close_all, receive_fds


class Request:
    """One packet of the shim.  As a context manager it closes, at its end, the
    descriptors that nobody took."""

    def __init__(
        self, request_id: int, operation: str, arguments: dict[str, Any], fds: list[int]
    ) -> None:
        self.id = request_id
        self.operation = operation
        self.arguments = arguments
        self.fds = fds

    def take_fds(self, count: int) -> list[int]:
        """The caller owns them from then on."""
        taken = self.borrow_fds(count)
        self.fds = []
        return taken

    def borrow_fds(self, count: int) -> list[int]:
        """The request still owns them."""
        if len(self.fds) != count:
            raise InvalidArgument(
                f"control: {self.operation} came with {len(self.fds)} descriptors, not {count}"
            )
        return self.fds

    @contextmanager
    def taken_fds(self, count: int) -> Iterator[list[int]]:
        """Closed if the block fails; otherwise the block has passed them on."""
        taken = self.take_fds(count)
        try:
            yield taken
        except BaseException:
            close_all(taken)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_all(self.fds)
        self.fds = []


class MalformedPacket(Exception):
    """A packet that requests no operation.  `id`: the packet's, if it could be read."""

    def __init__(self, problem: str, request_id: int | None = None) -> None:
        super().__init__(problem)
        self.id = request_id


class ControlChannel:
    """Blocking; the loop calls `receive` when the socket polls readable."""

    def __init__(self, control: socket.socket) -> None:
        self.socket = control

    def receive(self) -> Request | None:
        """The next request; None once the shim has closed its end."""
        try:
            data, fds, flags = receive_fds(self.socket, MAX_PACKET_BYTES, MAX_PACKET_FDS)
        except ConnectionResetError:
            return None
        if not data:
            close_all(fds)
            return None
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise MalformedPacket(
                    f"more than {MAX_PACKET_BYTES} bytes or {MAX_PACKET_FDS} descriptors"
                )
            return parse_request(data, fds)
        except MalformedPacket:
            close_all(fds)
            raise

    def answer(self, request_id: int, result: dict[str, Any]) -> None:
        self.send({"id": request_id, "result": result})

    def refuse(self, request_id: int | None, error: SampanError) -> None:
        problem = {"category": type(error).__name__, "message": str(error)}
        self.send({"id": request_id, "error": problem})

    def send_event(self, event: Event, arguments: dict[str, Any]) -> None:
        self.send({"event": event, "args": arguments})

    def send(self, message: dict[str, Any]) -> None:
        # The next receive reports a shim that is gone.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.send(json.dumps(message).encode())


def parse_request(data: bytes, fds: list[int]) -> Request:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedPacket(f"no JSON: {error}") from error
    if not isinstance(message, dict):
        raise MalformedPacket("no JSON object")
    request_id = message.get("id")
    if not isinstance(request_id, int):
        raise MalformedPacket(f"id is {request_id!r}, not an integer")
    operation, arguments = message.get("op"), message.get("args", {})
    if not isinstance(operation, str) or not isinstance(arguments, dict):
        raise MalformedPacket("op is no string or args no object", request_id)
    return Request(request_id, operation, arguments, fds)
