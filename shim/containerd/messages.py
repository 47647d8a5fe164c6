"""Small values in protobuf's own types, as containerd compares them."""

from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp


def make_timestamp(at_ns: int) -> Timestamp:
    """Of nanoseconds since the epoch."""
    seconds, nanos = divmod(at_ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def pack_any(message: Any) -> AnyMessage:
    """Its type URL is without the prefix that Any.Pack would write."""
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())
