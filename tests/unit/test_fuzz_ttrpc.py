"""Any bytes to both ends of a ttrpc connection: nothing raises, and how a stream is cut
into pieces changes nothing."""

from hypothesis import given
from hypothesis import strategies as st

from proto.gen.containerd import ttrpc_pb2
from shim.ttrpc.connection import ClientConnection, ServerConnection
from shim.ttrpc.frames import HEADER, MAX_DATA_BYTES, Frame, FrameDecoder, OversizedFrame
from tests.hypotheses import tried

REQUESTS = st.builds(
    lambda service, method, payload, timeout: ttrpc_pb2.Request(
        service=service, method=method, payload=payload, timeout_nano=timeout
    ).SerializeToString(),
    st.text(max_size=5),
    st.text(max_size=5),
    st.binary(max_size=20),
    st.integers(-(1 << 63), (1 << 63) - 1),
)
DATA = st.one_of(REQUESTS, st.binary(max_size=40))
U8 = st.integers(0, 255)
STREAMS = st.one_of(st.integers(0, 9), st.integers(0, (1 << 32) - 1))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    data = draw(DATA)
    length = draw(st.one_of(st.just(len(data)), st.integers(0, (1 << 32) - 1)))
    kind = draw(st.one_of(st.sampled_from([1, 1, 2, 3]), U8))
    return HEADER.pack(length, draw(STREAMS), kind, draw(U8)) + data


SENT = st.lists(st.one_of(frames(), st.binary(max_size=30)), max_size=6).map(b"".join)


@tried
@given(SENT, st.lists(st.integers(1, 40), max_size=12))
def test_a_stream_means_the_same_however_it_is_cut(sent: bytes, sizes: list[int]) -> None:
    decoder, position = FrameDecoder(), 0
    found: list[Frame | OversizedFrame] = []
    for size in sizes:
        found += decoder.feed(sent[position : position + size])
        position += size
    found += decoder.feed(sent[position:])
    assert found == list(FrameDecoder().feed(sent))
    assert all(isinstance(f, OversizedFrame) or len(f.data) <= MAX_DATA_BYTES for f in found)


@tried
@given(SENT)
def test_a_server_answers_whatever_it_receives(sent: bytes) -> None:
    server = ServerConnection()
    requests, answers = server.receive(sent)
    for request in requests:
        assert request.stream % 2 == 1
        assert request.timeout_s is None or request.timeout_s > 0
        answers += server.encode_response(request.stream, request.payload)
    assert len({request.stream for request in requests}) == len(requests)
    assert all(not isinstance(frame, OversizedFrame) for frame in FrameDecoder().feed(answers))


@tried
@given(SENT)
def test_a_client_takes_whatever_it_receives(sent: bytes) -> None:
    for response in ClientConnection().receive(sent):
        assert response.error is None or response.error.code != 0
