"""Both ends of a ttrpc connection without a socket: ids, limits, garbage."""

import random
from typing import Any

import pytest

from proto.gen.containerd import ttrpc_pb2
from shim.ttrpc.connection import FLAG_REMOTE_OPEN, ClientConnection, ServerConnection
from shim.ttrpc.frames import HEADER, MAX_DATA_BYTES, FrameType, encode_frame
from shim.ttrpc.status import Code


def request_frame(stream: int, flags: int = 0, **fields: Any) -> bytes:
    request = ttrpc_pb2.Request(service="s", method="m", **fields)
    return encode_frame(stream, FrameType.REQUEST, request.SerializeToString(), flags)


def read_status(answer: bytes) -> tuple[int, int, str]:
    length, stream, kind, _ = HEADER.unpack_from(answer)
    assert kind == FrameType.RESPONSE
    response = ttrpc_pb2.Response.FromString(answer[HEADER.size : HEADER.size + length])
    return stream, response.status.code, response.status.message


def test_a_request_is_parsed_whole() -> None:
    frame = request_frame(1, payload=b"p", timeout_nano=1_500_000_000)
    (request,), answers = ServerConnection().receive(frame)
    assert (request.stream, request.service, request.method) == (1, "s", "m")
    assert (request.payload, request.timeout_s, answers) == (b"p", 1.5, b"")


def test_no_timeout_is_none() -> None:
    (request,), _ = ServerConnection().receive(request_frame(1))
    assert request.timeout_s is None


@pytest.mark.parametrize("stream", [0, 2, 4])
def test_an_even_stream_id_is_refused_on_that_stream(stream: int) -> None:
    requests, answers = ServerConnection().receive(request_frame(stream))
    assert requests == []
    assert read_status(answers)[:2] == (stream, Code.INVALID_ARGUMENT)


@pytest.mark.parametrize("second", [1, 3, 5])
def test_a_stream_id_must_be_above_the_last(second: int) -> None:
    server = ServerConnection()
    server.receive(request_frame(5))
    requests, answers = server.receive(request_frame(second))
    assert requests == []
    assert read_status(answers)[:2] == (second, Code.INVALID_ARGUMENT)
    assert len(server.receive(request_frame(7))[0]) == 1


def test_an_oversized_request_is_answered_resource_exhausted() -> None:
    header = HEADER.pack(MAX_DATA_BYTES + 1, 9, FrameType.REQUEST, 0)
    requests, answers = ServerConnection().receive(header)
    assert requests == []
    assert read_status(answers)[:2] == (9, Code.RESOURCE_EXHAUSTED)


def test_a_payload_that_is_no_request_is_invalid_argument() -> None:
    _, answers = ServerConnection().receive(encode_frame(1, FrameType.REQUEST, b"\xff\xff"))
    assert read_status(answers)[:2] == (1, Code.INVALID_ARGUMENT)


def test_a_streaming_call_is_unimplemented() -> None:
    _, answers = ServerConnection().receive(request_frame(1, FLAG_REMOTE_OPEN))
    assert read_status(answers)[:2] == (1, Code.UNIMPLEMENTED)


@pytest.mark.parametrize("kind", [0, FrameType.RESPONSE, FrameType.DATA, 77, 255])
def test_other_message_types_are_ignored(kind: int) -> None:
    server = ServerConnection()
    assert server.receive(HEADER.pack(3, 1, kind, 0) + b"abc") == ([], b"")
    assert len(server.receive(request_frame(1))[0]) == 1


def test_no_bytes_make_the_server_raise() -> None:
    generator = random.Random(7)
    for _ in range(300):
        server = ServerConnection()
        server.receive(generator.randbytes(generator.randrange(200)))
        frame = encode_frame(1, FrameType.REQUEST, generator.randbytes(40))
        server.receive(frame)


def test_an_answer_above_the_limit_becomes_an_error() -> None:
    answer = ServerConnection().encode_response(1, bytes(MAX_DATA_BYTES))
    assert read_status(answer)[:2] == (1, Code.RESOURCE_EXHAUSTED)


def test_client_ids_are_odd_and_rising_and_answers_come_in_any_order() -> None:
    client, server = ClientConnection(), ServerConnection()
    first, sent_first = client.encode_request("s", "m", b"1", 5)
    second, sent_second = client.encode_request("s", "m", b"2", 5)
    assert (first, second) == (1, 3)
    requests, _ = server.receive(sent_first + sent_second)
    answers = b"".join(server.encode_response(r.stream, r.payload) for r in reversed(requests))
    received = client.receive(answers)
    assert [(r.stream, r.payload, r.error) for r in received] == [(3, b"2", None), (1, b"1", None)]


def test_client_sees_the_servers_error() -> None:
    client = ClientConnection()
    (received,) = client.receive(ServerConnection().encode_error(1, Code.NOT_FOUND, "gone"))
    assert received.error is not None
    assert (received.error.code, received.error.message) == (Code.NOT_FOUND, "gone")


def test_client_takes_garbage_for_a_failed_answer() -> None:
    (received,) = ClientConnection().receive(encode_frame(1, FrameType.RESPONSE, b"\xff"))
    assert received.error is not None
    assert received.error.code == Code.INTERNAL
