"""Just enough of protobuf's wire format for messages with a few plain fields.

Pure.  `start` and `delete` read and write three such messages; importing
protobuf for them would cost more time than all else that they do.
protobuf.dev "Encoding": a tag is field << 3 | type.
"""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}


def encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_number(field: int, value: int) -> bytes:
    return encode_varint(field << 3 | VARINT) + encode_varint(value)


def encode_bytes(field: int, value: bytes) -> bytes:
    return encode_varint(field << 3 | BYTES) + encode_varint(len(value)) + value


def decode_fields(message: bytes) -> dict[int, list[int | bytes]]:
    """Values by field number, in their order; ValueError for what is no message."""
    fields: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(message):
        tag, position = _decode_varint(message, position)
        field, kind = tag >> 3, tag & 7
        if field == 0:
            raise ValueError("field number 0")
        value: int | bytes
        if kind == VARINT:
            value, position = _decode_varint(message, position)
        elif kind == BYTES:
            length, position = _decode_varint(message, position)
            value, position = _take(message, position, length)
        elif kind in FIXED_SIZES:
            value, position = _take(message, position, FIXED_SIZES[kind])
        else:
            raise ValueError(f"wire type {kind}")
        fields.setdefault(field, []).append(value)
    return fields


def read_text(fields: dict[int, list[int | bytes]], field: int) -> str:
    """The last value of a string field; "" when it is absent."""
    value = fields.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise ValueError(f"field {field} is no string")
    return value.decode()


def _decode_varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(MAX_VARINT_BYTES):
        if position + index >= len(message):
            raise ValueError("the message ends inside a number")
        byte = message[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError("a number is longer than 64 bits")


def _take(message: bytes, position: int, length: int) -> tuple[bytes, int]:
    end = position + length
    if end > len(message):
        raise ValueError(f"a value of {length} bytes reaches past the end")
    return message[position:end], end
