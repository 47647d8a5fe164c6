"""Any bytes on the stdin of `start`: options, BootstrapParams, or a usage error."""

from hypothesis import given
from hypothesis import strategies as st

from shim.containerd.arguments import OPTIONS_TYPE, StartOptions, UsageError, parse_arguments
from shim.ttrpc.wire import decode_fields, encode_bytes, encode_number, encode_varint
from tests.hypotheses import tried

FIELDS = st.integers(0, 20)
NUMBERS = st.integers(0, (1 << 64) - 1)


def make_message(parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    field = st.one_of(
        st.builds(encode_number, FIELDS, NUMBERS),
        st.builds(encode_bytes, FIELDS, parts),
        st.builds(lambda value: encode_bytes(1, value), parts),
        st.builds(lambda value: encode_bytes(8, value), parts),
        st.builds(lambda value: encode_bytes(2, value), parts),
        st.builds(lambda field, kind: encode_varint(field << 3 | kind), FIELDS, st.integers(0, 7)),
    )
    return st.lists(field, max_size=5).map(b"".join)


LEAVES = st.one_of(
    st.sampled_from([b"c1", OPTIONS_TYPE.encode(), b"/etc/sampan/config.yaml", b"\xff"]),
    st.binary(max_size=12),
)
MESSAGES = make_message(make_message(st.one_of(make_message(LEAVES), LEAVES)) | LEAVES)


@tried
@given(st.one_of(MESSAGES, st.binary(max_size=60)))
def test_whatever_comes_is_options_or_a_usage_error(stdin: bytes) -> None:
    try:
        options = StartOptions(stdin, "c1")
    except UsageError:
        return
    assert isinstance(options.config_path, str)


@tried
@given(MESSAGES)
def test_a_message_is_decoded_whole_or_not_at_all(message: bytes) -> None:
    try:
        fields = decode_fields(message)
    except ValueError:
        return
    assert 0 not in fields
    assert all(values for values in fields.values())
    if message:
        assert decode_fields(message + encode_number(7, 1))[7][-1] == 1


FLAGS = st.sampled_from(["-id", "--id=x", "-namespace", "-debug", "-v=0", "-", "--", "start"])


@tried
@given(st.lists(st.one_of(FLAGS, st.text(max_size=10)), max_size=8))
def test_any_arguments_are_an_invocation_or_a_usage_error(argv: list[str]) -> None:
    try:
        invocation = parse_arguments(argv)
        invocation.check()
    except UsageError:
        return
    assert invocation.container_id
    assert "/" not in invocation.container_id + invocation.namespace
