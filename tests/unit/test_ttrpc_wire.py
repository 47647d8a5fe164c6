"""The small protobuf reader and writer agrees with protobuf itself."""

import random

import pytest

from proto.gen.containerd import task_pb2
from shim.ttrpc.wire import decode_fields, encode_bytes, encode_number, read_text


def test_what_protobuf_writes_is_read() -> None:
    message = task_pb2.KillRequest(id="c1", exec_id="e", signal=300, all=True)
    fields = decode_fields(message.SerializeToString())
    assert (read_text(fields, 1), read_text(fields, 2)) == ("c1", "e")
    assert (fields[3], fields[4]) == ([300], [1])


def test_what_we_write_protobuf_reads() -> None:
    text = encode_number(2, 137) + encode_bytes(3, encode_number(1, 1 << 40) + encode_number(2, 9))
    message = task_pb2.DeleteResponse.FromString(text)
    assert (message.exit_status, message.exited_at.seconds, message.exited_at.nanos) == (
        137,
        1 << 40,
        9,
    )


def test_an_absent_string_is_empty() -> None:
    assert read_text(decode_fields(b""), 1) == ""


@pytest.mark.parametrize(
    "message",
    [b"\x08", b"\x0a\x05ab", b"\x08" + b"\xff" * 11, b"\x00\x00", b"\x0b", b"\x0d\x01\x02"],
    ids=["cut number", "cut string", "long number", "field 0", "group", "cut fixed"],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        decode_fields(message)


def test_random_bytes_give_fields_or_a_value_error() -> None:
    generator = random.Random(3)
    for _ in range(2000):
        try:
            decode_fields(generator.randbytes(generator.randrange(40)))
        except ValueError:
            continue
