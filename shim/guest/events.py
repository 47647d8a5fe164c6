"""What the agent tells by itself, on a plain connection: ends of processes and
out-of-memory kills.

proto/agent/v1/agent.proto, "events".  The connection is opened by the first wait, and
anew when it breaks; the waits that go on are then sent again, so no end is lost.  Each
has a number of its own: an end of a process is never taken for that of another one
with the same name.  Runs on the event loop; idle, it costs nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Final

from google.protobuf.message import DecodeError

from proto.contract import MAX_EVENT_BYTES
from proto.frames import FrameError, frame, read_frame
from proto.gen.agent.v1 import agent_pb2
from shim.errors import GuestFault, NotFound, SampanError, Unavailable
from shim.guest.values import ProcessName
from shim.text import clean_text

MAX_EXIT_STATUS: Final = 255
MAX_QUEUED_KILLS: Final = 16
"""Then the guest waits, if there is a reader; else later ones are dropped."""
CLOSED: Final = "the connection for the agent's events was closed"
RECONNECT_S: Final = 0.1
MAX_RECONNECT_S: Final = 30.0
log = logging.getLogger(__name__)


class Watch:
    """The wait for one process's end."""

    def __init__(self, number: int, process: ProcessName) -> None:
        self.number = number
        self.process = process
        self.kills = 0
        """Those that the agent has told of."""
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def to_frame(self) -> bytes:
        request = agent_pb2.WatchProcess(
            watch=self.number, process=make_ref(self.process), oom_kills=self.kills
        )
        return frame(request.SerializeToString())


class AgentEvents:
    """Lifecycle: any waits at once; `close`."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._watches: dict[int, Watch] = {}
        """Until the agent has answered, also when nobody waits any more."""
        self._last = 0
        self._kills: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUED_KILLS)
        self._kills_are_read = False
        self._writer: asyncio.StreamWriter | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    async def wait_exit(self, process: ProcessName) -> int:
        """The exit status; GuestFault when the agent breaks the protocol."""
        if self._closed:
            raise Unavailable(CLOSED)
        self._last += 1
        watch = self._watches[self._last] = Watch(self._last, process)
        if self._writer is not None:
            self._writer.write(watch.to_frame())
        elif self._connecting is None:
            self._connecting = asyncio.create_task(self._stay_connected())
        return await watch.status

    async def read_kills(self) -> AsyncIterator[str]:
        """Ids of the containers in which there was one; for one reader."""
        self._kills_are_read = True
        while True:
            yield await self._kills.get()

    async def close(self) -> None:
        """Waits fail with Unavailable."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
            await asyncio.sleep(0)  # until the transport has closed its socket
        self._fail(Unavailable, CLOSED)

    async def _stay_connected(self) -> None:
        pause_s = RECONNECT_S
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(self._path)
                self._resend(self._writer)
                while True:
                    await self._handle(await read_frame(reader, MAX_EVENT_BYTES))
                    pause_s = RECONNECT_S
            except (OSError, asyncio.IncompleteReadError) as error:
                log.info("the connection for the agent's events is lost: %s", error)
            except (FrameError, DecodeError, GuestFault) as error:
                self._fail(GuestFault, f"the guest's agent: an event: {error}")
            finally:
                if self._writer is not None:
                    self._writer.transport.abort()
                    self._writer = None
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, MAX_RECONNECT_S)

    def _resend(self, writer: asyncio.StreamWriter) -> None:
        gone = [number for number, watch in self._watches.items() if watch.status.done()]
        for number in gone:
            del self._watches[number]
        for watch in self._watches.values():
            writer.write(watch.to_frame())

    async def _handle(self, message: bytes) -> None:
        event = agent_pb2.ProcessEvent.FromString(message)
        watch = self._watches.get(event.watch)
        if watch is None:
            raise GuestFault(f"watch {event.watch}, which is not open")
        kind = event.WhichOneof("event")
        if kind == "out_of_memory":
            await self._handle_kill(watch, event.out_of_memory.oom_kills)
            return
        del self._watches[watch.number]
        if watch.status.done():  # whoever waited was cancelled
            return
        if kind == "not_found":
            watch.status.set_exception(NotFound(clean_text(event.not_found)))
        elif kind == "exited" and event.exited.exit_status <= MAX_EXIT_STATUS:
            watch.status.set_result(event.exited.exit_status)
        else:
            watch.status.set_exception(describe_fault(event))

    async def _handle_kill(self, watch: Watch, kills: int) -> None:
        if kills <= watch.kills:
            raise GuestFault(f"{kills} kills after {watch.kills}")
        watch.kills = kills
        if self._kills_are_read or not self._kills.full():
            await self._kills.put(watch.process.container_id)

    def _fail(self, category: type[SampanError], text: str) -> None:
        for watch in self._watches.values():
            if not watch.status.done():
                watch.status.set_exception(category(text))
        self._watches.clear()


def describe_fault(event: agent_pb2.ProcessEvent) -> GuestFault:
    if event.WhichOneof("event") is None:
        return GuestFault("the guest's agent: an event of no kind that we know")
    status = event.exited.exit_status
    return GuestFault(f"the guest's agent: exit status {status} is not from 0 to {MAX_EXIT_STATUS}")


def make_ref(process: ProcessName) -> agent_pb2.ProcessRef:
    return agent_pb2.ProcessRef(container_id=process.container_id, exec_id=process.exec_id)
