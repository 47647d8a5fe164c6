"""The two ends of a ttrpc connection, without a socket.

Pure: bytes in, events and bytes out.  ServerConnection checks the rules for
stream ids (ttrpc PROTOCOL.md "Streams": odd, increasing) and answers protocol
errors by itself; the caller answers each RequestReceived once.
ClientConnection numbers calls and pairs responses with them.  Nothing that a
peer sends makes either raise.
"""

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from proto.gen.containerd import ttrpc_pb2
from shim.ttrpc.frames import (
    MAX_DATA_BYTES,
    Frame,
    FrameDecoder,
    FrameType,
    OversizedFrame,
    encode_frame,
)
from shim.ttrpc.status import Code, StatusError

FLAG_REMOTE_OPEN: Final = 2
MAX_STREAM: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class RequestReceived:
    stream: int
    service: str
    method: str
    payload: bytes
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    stream: int
    payload: bytes
    error: StatusError | None


class ServerConnection:
    """Reads requests; writes each answer as one frame."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._last_stream = 0

    def receive(self, received: bytes) -> tuple[list[RequestReceived], bytes]:
        """The requests in `received`, and what is to be sent because of the rest."""
        requests: list[RequestReceived] = []
        answers = bytearray()
        for frame in self._decoder.feed(received):
            try:
                request = self._parse(frame)
            except StatusError as error:
                answers += self.encode_error(frame.stream, error.code, error.message)
                continue
            if request is not None:
                requests.append(request)
        return requests, bytes(answers)

    def encode_response(self, stream: int, payload: bytes) -> bytes:
        response = ttrpc_pb2.Response(payload=payload).SerializeToString()
        if len(response) > MAX_DATA_BYTES:
            message = f"answer of {len(response)} bytes exceeds {MAX_DATA_BYTES}"
            return self.encode_error(stream, Code.RESOURCE_EXHAUSTED, message)
        return encode_frame(stream, FrameType.RESPONSE, response)

    def encode_error(self, stream: int, code: int, message: str) -> bytes:
        status = ttrpc_pb2.Status(code=code, message=message)
        response = ttrpc_pb2.Response(status=status)
        return encode_frame(stream, FrameType.RESPONSE, response.SerializeToString())

    def _parse(self, frame: Frame | OversizedFrame) -> RequestReceived | None:
        if frame.type != FrameType.REQUEST:
            return None
        self._check_stream(frame.stream)
        if isinstance(frame, OversizedFrame):
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"request of {frame.length} bytes exceeds {MAX_DATA_BYTES}",
            )
        if frame.flags & FLAG_REMOTE_OPEN:
            raise StatusError(Code.UNIMPLEMENTED, "streaming calls are not supported")
        try:
            request = ttrpc_pb2.Request.FromString(frame.data)
        except DecodeError as error:
            raise StatusError(Code.INVALID_ARGUMENT, f"ttrpc request: {error}") from error
        timeout_s = request.timeout_nano / 1e9 if request.timeout_nano > 0 else None
        return RequestReceived(
            frame.stream, request.service, request.method, request.payload, timeout_s
        )

    def _check_stream(self, stream: int) -> None:
        if stream % 2 == 0:
            raise StatusError(Code.INVALID_ARGUMENT, f"stream id {stream} is even")
        if stream <= self._last_stream:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"stream id {stream} is not above the last one, {self._last_stream}",
            )
        self._last_stream = stream


class ClientConnection:
    """Writes requests; reads the answers, which come in any order."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._next_stream = 1

    def encode_request(
        self, service: str, method: str, payload: bytes, timeout_s: float
    ) -> tuple[int, bytes]:
        """The call's stream id and its frame."""
        if self._next_stream > MAX_STREAM:
            raise StatusError(Code.UNAVAILABLE, "the connection has used up its stream ids")
        stream = self._next_stream
        self._next_stream += 2
        request = ttrpc_pb2.Request(
            service=service, method=method, payload=payload, timeout_nano=int(timeout_s * 1e9)
        )
        return stream, encode_frame(stream, FrameType.REQUEST, request.SerializeToString())

    def receive(self, received: bytes) -> list[ResponseReceived]:
        frames = self._decoder.feed(received)
        return [self._parse(frame) for frame in frames if frame.type == FrameType.RESPONSE]

    def _parse(self, frame: Frame | OversizedFrame) -> ResponseReceived:
        if isinstance(frame, OversizedFrame):
            message = f"answer of {frame.length} bytes exceeds {MAX_DATA_BYTES}"
            error = StatusError(Code.RESOURCE_EXHAUSTED, message)
            return ResponseReceived(frame.stream, b"", error)
        try:
            response = ttrpc_pb2.Response.FromString(frame.data)
        except DecodeError as cause:
            error = StatusError(Code.INTERNAL, f"ttrpc response: {cause}")
            return ResponseReceived(frame.stream, b"", error)
        if response.status.code != Code.OK:
            error = StatusError(response.status.code, response.status.message)
            return ResponseReceived(frame.stream, b"", error)
        return ResponseReceived(frame.stream, response.payload, None)
