"""What an agent that lies answers: figures, events, refusals and times are data."""

from typing import Any

import grpc
import grpc.aio
from hypothesis import given
from hypothesis import strategies as st

from proto.gen.agent.v1 import agent_pb2
from shim.containerd.stats import CPU_KEYS, EVENT_KEYS, MEMORY_KEYS
from shim.containerd.stats import build_metrics_v1 as v1
from shim.containerd.stats import build_metrics_v2 as v2
from shim.errors import SampanError
from shim.guest.client import AgentClient, describe_failure
from shim.guest.discipline import MAX_INTERVAL_S, MIN_INTERVAL_S, ClockOffset, Discipline
from tests.hypotheses import tried

U64 = st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1 << 63, (1 << 64) - 1]))
NAMES = st.sampled_from(
    ["pids.current", "pids.max", "cpu.stat", "memory.stat", "memory.events", "memory.current",
     "memory.max", "memory.peak", "memory.swap.current", "memory.swap.max"]
)  # fmt: skip
KEYS = st.sampled_from(["", "anon_thp", *MEMORY_KEYS, *CPU_KEYS, *EVENT_KEYS])
FILES = st.dictionaries(
    st.one_of(NAMES, st.text(max_size=5)),
    st.dictionaries(st.one_of(KEYS, st.text(max_size=5)), U64, max_size=6),
    max_size=10,
)


class Stub:
    """Answers as the agent is told to."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def GetStats(self, request: Any, **_: Any) -> Any:
        return self._answer


@tried
@given(FILES)
def test_any_figures_become_metrics(files: dict[str, dict[str, int]]) -> None:
    assert v1(files).SerializeToString() is not None
    assert v2(files).SerializeToString() is not None


@tried
@given(FILES)
async def test_figures_are_read_as_they_were_sent(files: dict[str, dict[str, int]]) -> None:
    answer = agent_pb2.GetStatsResponse(
        files={name: agent_pb2.StatFile(values=values) for name, values in files.items()}
    )
    agent = AgentClient.__new__(AgentClient)
    agent._stub = Stub(answer)  # type: ignore[assignment]
    assert await agent.get_stats("c") == files


@tried
@given(st.sampled_from(list(grpc.StatusCode)), st.one_of(st.none(), st.text(max_size=200)))
def test_any_refusal_is_an_error_of_ours(code: grpc.StatusCode, details: str | None) -> None:
    nothing = grpc.aio.Metadata()
    error = describe_failure(grpc.aio.AioRpcError(code, nothing, nothing, details))
    assert isinstance(error, SampanError)
    assert str(error)


NS = st.integers(-(1 << 63), (1 << 63) - 1)


@tried
@given(st.lists(st.builds(ClockOffset, NS, st.integers(0, 1 << 63)), max_size=20))
def test_a_lying_clock_is_checked_no_more_often(looks: list[ClockOffset]) -> None:
    discipline = Discipline()
    for look in looks:
        correction = discipline.decide(look)
        assert MIN_INTERVAL_S <= discipline.interval_s <= MAX_INTERVAL_S
        assert correction is None or abs(correction.offset_ns) > look.error_ns
