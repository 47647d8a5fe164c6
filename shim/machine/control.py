"""The shim's end of a vmm's control socket, on the event loop.

proto/control.py has the messages.  One ControlSocket for a vmm; requests may
overlap.  When the vmm closes its end, every request in flight raises
GuestFault and `closed` is set; nothing is ever sent twice.

The vmm may have been taken over.  Each message must be an expected one: an
answer to a request, the end of a stream, or the one end of the machine.  The
first one that is not closes the socket: a flood of them costs no more than one.
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from proto.control import MAX_PACKET_BYTES, Operation, StoppedEvent, StreamClosedEvent
from shim.errors import GuestFault
from shim.host.fds import close_all
from shim.machine.messages import Answer, ProtocolFault, parse_message

Packet = tuple[bytes, list[int]]
OnEvent = Callable[[StoppedEvent | StreamClosedEvent], None]
"""Raises ProtocolFault for an event that cannot be expected."""
OnClosed = Callable[[str], None]
"""With how the vmm has broken the protocol; "" if it has not."""

FIRST_ID: Final = 1
TURN_PACKETS: Final = 32
"""Read in one turn; then the other tasks of the event loop have theirs."""


class ControlSocket:
    """Lifecycle: `expect` what was sent before; `request`s; `close`.  Owns the socket."""

    def __init__(self, control: socket.socket, on_event: OnEvent, on_closed: OnClosed) -> None:
        control.setblocking(False)
        self._socket = control
        self._on_event = on_event
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._last_id = FIRST_ID
        self._outgoing: list[Packet] = []
        self.closed = asyncio.Event()
        self._loop.add_reader(control, self._receive)

    def expect(self, request_id: int) -> "asyncio.Future[Any]":
        """The answer to a request that others have sent on the socket."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._requests[request_id] = answer
        self._last_id = max(self._last_id, request_id)
        return answer

    async def request(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        return await self.send(operation, arguments)

    def send(
        self, operation: Operation, arguments: dict[str, Any], fds: Sequence[int] = ()
    ) -> "asyncio.Future[Any]":
        """The result to come.  Descriptors stay the caller's; copies are sent."""
        answer = self.expect(self._last_id + 1)
        if self.closed.is_set():
            fail(answer, GuestFault(f"{operation}: the vmm has ended"))
            return answer
        message = {"id": self._last_id, "op": operation, "args": arguments}
        self._outgoing.append((json.dumps(message).encode(), [os.dup(number) for number in fds]))
        self._flush()
        return answer

    def close(self, fault: str = "") -> None:
        """Idempotent.  A vmm that was not taken over then stops its machine and ends."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, fds in self._outgoing:
            close_all(fds)
        self._outgoing.clear()
        self.closed.set()
        for answer in self._requests.values():
            if not answer.done():
                fail(answer, GuestFault("the vmm has ended"))
        self._requests.clear()
        self._on_closed(fault)

    def _flush(self) -> None:
        while self._outgoing:
            packet, fds = self._outgoing[0]
            try:
                socket.send_fds(self._socket, [packet], fds)
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._flush)
                return
            except OSError:
                self.close()
                return
            close_all(fds)
            del self._outgoing[0]
        self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            for _ in range(TURN_PACKETS):
                packet = self._read_packet()
                if not packet:
                    self.close()
                    return
                self._dispatch(packet)
                if self.closed.is_set():
                    return
        except BlockingIOError:
            return
        except ProtocolFault as fault:
            self.close(str(fault))

    def _read_packet(self) -> bytes:
        """b"" at the end.  The kernel drops descriptors that come along: there is no room
        for them (unix(7), SCM_RIGHTS)."""
        try:
            packet, _, flags, _ = self._socket.recvmsg(MAX_PACKET_BYTES)
        except BlockingIOError:
            raise
        except OSError:
            return b""
        if flags & socket.MSG_CTRUNC:
            raise ProtocolFault("descriptors")
        if flags & socket.MSG_TRUNC:
            raise ProtocolFault(f"a packet of more than {MAX_PACKET_BYTES} bytes")
        return packet

    def _dispatch(self, packet: bytes) -> None:
        message = parse_message(packet)
        if not isinstance(message, Answer):
            self._on_event(message)
            return
        answer = self._requests.pop(message.id, None)
        if answer is None:
            raise ProtocolFault(f"an answer to request {message.id}, which is not open")
        if answer.done():
            return  # the caller has given up
        if message.error is None:
            answer.set_result(message.result)
        else:
            fail(answer, message.error)


def fail(answer: "asyncio.Future[Any]", error: Exception) -> None:
    answer.set_exception(error)
    answer.exception()  # marks it as seen: perhaps nobody awaits it
