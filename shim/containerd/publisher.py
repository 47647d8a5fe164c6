"""Tells containerd what has happened to its tasks.

One Publisher for a shim.  Events leave in the order in which they were
published, one at a time, over ttrpc to containerd's events socket; while
containerd is away (it may be restarted under running containers) they wait.
Envelope rules: containerd core/events/exchange; type URLs have no prefix.
"""

import asyncio
import logging
import time
from collections import deque
from typing import Final

from google.protobuf.message import Message

from proto.gen.containerd import events_pb2, types_pb2
from shim.containerd.messages import make_timestamp, pack_any
from shim.ttrpc.client import Client, connect_client
from shim.ttrpc.status import Code, StatusError

SERVICE: Final = "containerd.services.events.ttrpc.v1.Events"
METHOD: Final = "Forward"
CALL_TIMEOUT_S: Final = 5.0
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
MAX_WAITING: Final = 2048
PERMANENT_ERRORS: Final = frozenset(
    (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.PERMISSION_DENIED)
)
"""Sending such an event again would fail again."""

log = logging.getLogger(__name__)


class Publisher:
    """Lifecycle: `start`, any number of `publish`, `close`."""

    def __init__(self, socket_path: str, namespace: str) -> None:
        self._socket_path = socket_path
        self._namespace = namespace
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._client: Client | None = None
        self._sender: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    def start(self) -> None:
        """Without a socket to send to, events are dropped."""
        if self._socket_path:
            self._sender = asyncio.create_task(self._send_all())

    def publish(self, topic: str, event: Message) -> None:
        """Queues an event; the oldest is dropped when MAX_WAITING are queued."""
        if self._sender is None:
            return
        if len(self._waiting) >= MAX_WAITING:
            lost_topic, _ = self._waiting.popleft()
            log.error(
                "%d events wait for containerd: dropped the oldest, a %s", MAX_WAITING, lost_topic
            )
        envelope = types_pb2.Envelope(
            timestamp=make_timestamp(time.time_ns()),
            namespace=self._namespace,
            topic=topic,
            event=pack_any(event),
        )
        request = events_pb2.ForwardRequest(envelope=envelope)
        self._waiting.append((topic, request.SerializeToString()))
        self._drained.clear()
        self._wakeup.set()

    async def close(self, timeout_s: float) -> None:
        """Waits at most `timeout_s` for the queued events to be sent."""
        if self._sender is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()
        except TimeoutError:
            log.error("%d events could not be sent to containerd and are lost", len(self._waiting))
        self._sender.cancel()
        await asyncio.wait({self._sender})
        await self._disconnect()

    async def _send_all(self) -> None:
        delay_s = RETRY_FIRST_S
        while True:
            if not self._waiting:
                self._drained.set()
                self._wakeup.clear()
                await self._wakeup.wait()
                continue
            topic, request = self._waiting[0]
            if await self._try_send(topic, request):
                delay_s = RETRY_FIRST_S
                if self._waiting and self._waiting[0][1] is request:
                    self._waiting.popleft()
                continue
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, RETRY_MAX_S)

    async def _try_send(self, topic: str, request: bytes) -> bool:
        """False when the event is to be sent again."""
        try:
            if self._client is None:
                self._client = await connect_client(self._socket_path)
            await self._client.call(SERVICE, METHOD, request, CALL_TIMEOUT_S)
        except StatusError as error:
            log.warning("containerd refused a %s event: %s", topic, error)
            return error.code in PERMANENT_ERRORS
        except OSError as error:
            log.debug("a %s event cannot be sent to containerd yet: %s", topic, error)
            await self._disconnect()
            return False
        return True

    async def _disconnect(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None
