"""The shim's end of a vmm's control socket, on the event loop.

proto/control.py has the messages.  One ControlSocket for a vmm; requests may
overlap.  When the vmm closes its end, every request that is open raises
GuestFault and `closed` is set; nothing is ever sent twice.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from proto.control import MAX_PACKET_BYTES, Event, Operation
from shim.errors import BY_CATEGORY, GuestFault
from shim.host.fds import close_all

Packet = tuple[bytes, list[int]]
log = logging.getLogger(__name__)

FIRST_ID: Final = 1


class ControlSocket:
    """Lifecycle: `expect` what was sent before; `request`s; `close`.  Owns the socket."""

    def __init__(self, control: socket.socket, on_event: Callable[[Event, Any], None]) -> None:
        control.setblocking(False)
        self._socket = control
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._last_id = FIRST_ID
        self._outgoing: list[Packet] = []
        self.closed = asyncio.Event()
        self._loop.add_reader(control, self._receive)

    def expect(self, request_id: int) -> "asyncio.Future[Any]":
        """The answer to a request that was sent on the socket by someone else."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._requests[request_id] = answer
        self._last_id = max(self._last_id, request_id)
        return answer

    async def request(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        return await self.send(operation, arguments)

    def send(
        self, operation: Operation, arguments: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> "asyncio.Future[Any]":
        """The result to come.  Descriptors stay the caller's; copies are sent."""
        answer = self.expect(self._last_id + 1)
        if self.closed.is_set():
            fail(answer, GuestFault(f"{operation}: the vmm has ended"))
            return answer
        message = {"id": self._last_id, "op": operation, "args": arguments}
        self._outgoing.append(
            (json.dumps(message).encode(), [os.dup(number) for number in descriptors])
        )
        self._flush()
        return answer

    def close(self) -> None:
        """Idempotent.  The vmm then stops its machine and ends."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, descriptors in self._outgoing:
            close_all(descriptors)
        self._outgoing.clear()
        self.closed.set()
        for answer in self._requests.values():
            if not answer.done():
                fail(answer, GuestFault("the vmm has ended"))
        self._requests.clear()

    def _flush(self) -> None:
        while self._outgoing:
            packet, descriptors = self._outgoing[0]
            try:
                socket.send_fds(self._socket, [packet], descriptors)
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self.close()
                return
            close_all(descriptors)
            del self._outgoing[0]
        self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        while True:
            try:
                packet = self._socket.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self.close()
                return
            try:
                self._dispatch(json.loads(packet))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                log.error("message of the vmm makes no sense (%s): %.200r", error, packet)
            if self._socket.fileno() < 0:
                return

    def _dispatch(self, message: Any) -> None:
        """Whatever a vmm sends that was taken over: an error that `_receive` expects."""
        if not isinstance(message, dict):
            raise TypeError("no JSON object")
        if "event" in message:
            if not isinstance(message["args"], dict):
                raise TypeError("args is no object")
            self._on_event(Event(message["event"]), message["args"])
            return
        answer = self._requests.pop(message["id"], None)
        if answer is None or answer.done():
            return
        error = message.get("error")
        if error is None:
            answer.set_result(message.get("result"))
        else:
            fail(answer, read_error(error))


def read_error(error: Any) -> Exception:
    """One that makes no sense is the answer too: the request has no other."""
    if not isinstance(error, dict) or not isinstance(error.get("category"), str):
        return GuestFault(f"the vmm refused, and did not say why: {error!r:.200}")
    category = BY_CATEGORY.get(error["category"], GuestFault)
    return category(str(error.get("message")))


def fail(answer: "asyncio.Future[Any]", error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # marks it as seen: nobody need be waiting
