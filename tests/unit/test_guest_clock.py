"""A guest's clock is kept at the host's time, and checked no more often than needed."""

import asyncio
import ctypes
import time

import pytest

from agent.clock import (
    ADJ_SETOFFSET,
    MAX_SLEW_NS,
    MAX_TIME_CONSTANT,
    STA_PLL,
    HostClock,
    describe_slew,
    describe_step,
)
from agent.errors import InvalidArgument
from agent.linux import Timex, adjust_clock
from proto.clock import STEP_NS, choose_time_constant
from shim.errors import Unavailable
from shim.guest import clock
from shim.guest.clock import keep_clock, measure_clock
from shim.guest.discipline import (
    MAX_INTERVAL_S,
    MIN_INTERVAL_S,
    ClockOffset,
    Correction,
    Discipline,
)

MS = 1_000_000


def settle(discipline: Discipline) -> None:
    """Brings the clock to the state after a first correction and a while without
    any."""
    discipline.decide(ClockOffset(-10 * MS, MS))
    while discipline.interval_s < MAX_INTERVAL_S:
        assert discipline.decide(ClockOffset(0, MS)) is None


def test_what_cannot_be_told_from_right_is_left_alone() -> None:
    discipline = Discipline()
    assert discipline.decide(ClockOffset(MS // 2, MS)) is None
    assert discipline.decide(ClockOffset(-MS, MS)) is None


def test_a_clock_that_is_right_is_checked_less_and_less() -> None:
    discipline = Discipline()
    seen = []
    for _ in range(8):
        discipline.decide(ClockOffset(0, MS))
        seen.append(discipline.interval_s)
    assert seen == [8, 16, 32, 64, 128, 256, 256, 256]


def test_a_clone_that_is_behind_at_first_is_set_at_once() -> None:
    correction = Discipline().decide(ClockOffset(10 * MS, MS))
    assert correction is not None
    assert correction.step
    assert correction.offset_ns == 10 * MS


def test_time_never_goes_back_at_once_for_a_little() -> None:
    correction = Discipline().decide(ClockOffset(-10 * MS, MS))
    assert correction is not None
    assert not correction.step


def test_later_a_little_is_made_good_slowly() -> None:
    discipline = Discipline()
    settle(discipline)
    correction = discipline.decide(ClockOffset(10 * MS, MS))
    assert correction is not None
    assert not correction.step
    assert correction.error_ns == MS


@pytest.mark.parametrize("offset_ns", [STEP_NS + 1, -STEP_NS - 1, 10**18, -(10**18)])
def test_what_is_far_off_is_set_at_once(offset_ns: int) -> None:
    discipline = Discipline()
    settle(discipline)
    correction = discipline.decide(ClockOffset(offset_ns, MS))
    assert correction is not None
    assert correction.step


def test_a_clock_that_was_off_is_checked_more_often() -> None:
    discipline = Discipline()
    settle(discipline)
    for expected in (128, 64, 32, 16, 8, MIN_INTERVAL_S, MIN_INTERVAL_S):
        discipline.decide(ClockOffset(10 * MS, MS))
        assert discipline.interval_s == expected


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_correction_is_made_before_the_next_check(turns: int) -> None:
    discipline = Discipline()
    settle(discipline)
    for _ in range(turns):
        correction = discipline.decide(ClockOffset(10 * MS, MS))
    assert correction is not None
    assert 2 ** (2 + correction.time_constant) == discipline.interval_s
    assert correction.time_constant <= MAX_TIME_CONSTANT


def test_a_measurement_that_took_too_long_says_nothing() -> None:
    """The guest was paused during the check, or the host was busy."""
    discipline = Discipline()
    settle(discipline)
    assert discipline.decide(ClockOffset(1800 * 10**9, 1700 * 10**9)) is None
    assert discipline.interval_s == MIN_INTERVAL_S


def test_a_host_that_has_become_slow_is_believed_again_in_the_end() -> None:
    discipline = Discipline()
    discipline.decide(ClockOffset(0, MS))
    slow = ClockOffset(-500 * MS, 100 * MS)
    assert any(discipline.decide(slow) is not None for _ in range(50))


class GuestWithAClock:
    def __init__(self, offset_ns: int, looks: int, kept: bool = False) -> None:
        self.offset_ns = offset_ns
        self.looks = looks
        self.kept = kept
        self.corrections: list[Correction] = []

    async def read_clock(self) -> int | None:
        if self.kept:
            return None
        if self.looks == 0:
            raise Unavailable("gone")
        self.looks -= 1
        return time.time_ns() - self.offset_ns

    async def correct_clock(self, correction: Correction) -> None:
        self.corrections.append(correction)
        self.offset_ns -= correction.offset_ns


async def test_a_measurement_finds_how_far_off_it_is() -> None:
    measured = await measure_clock(GuestWithAClock(5 * 10**9, 1))  # type: ignore[arg-type]
    assert measured is not None
    assert abs(measured.offset_ns - 5 * 10**9) <= measured.error_ns + MS


async def test_a_guest_is_corrected_until_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr("shim.guest.clock.asyncio.sleep", no_sleep)
    guest = GuestWithAClock(3 * 10**9, 4)
    await keep_clock(guest)  # type: ignore[arg-type]
    assert abs(guest.offset_ns) < STEP_NS
    assert guest.corrections[0].step
    assert waited[0] == clock.FIRST_CHECK_S
    assert len(waited) == 5


async def test_a_guest_that_keeps_its_clock_itself_is_left_alone_until_it_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guest = GuestWithAClock(3 * 10**9, 1, kept=True)
    waited: list[float] = []

    async def no_sleep(seconds: float) -> None:
        waited.append(seconds)
        assert guest.corrections == []
        guest.kept = len(waited) < 3

    monkeypatch.setattr("shim.guest.clock.asyncio.sleep", no_sleep)
    with pytest.raises(AssertionError):
        await keep_clock(guest)  # type: ignore[arg-type]
    assert waited[:3] == [clock.FIRST_CHECK_S, MAX_INTERVAL_S, MAX_INTERVAL_S]
    assert len(guest.corrections) == 1


def test_a_host_that_tells_no_time_any_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container is waiting for that call."""
    host_clock = HostClock()
    host_clock.set_time()  # there is no such device
    monkeypatch.setattr(host_clock, "_id", (~999_999 << 3) | 3)  # no such descriptor
    host_clock.set_time()
    assert not host_clock.is_open


def test_a_host_clock_is_read_to_within_the_time_that_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host_clock = HostClock()
    assert not host_clock.is_open
    monkeypatch.setattr(host_clock, "_id", time.CLOCK_MONOTONIC)
    expected_ns = time.monotonic_ns() - time.time_ns()
    offset_ns, error_ns = host_clock.read_offset()
    assert host_clock.is_open
    assert abs(offset_ns - expected_ns) <= error_ns + MS


@pytest.mark.parametrize(("interval_s", "constant"), [(4, 0), (8, 1), (16, 2), (64, 4)])
def test_the_guests_own_corrections_are_made_before_its_next_check(
    interval_s: int, constant: int
) -> None:
    assert choose_time_constant(interval_s) == constant


def test_the_kernel_reads_the_structure_as_it_is_meant() -> None:
    state = Timex()
    adjust_clock(state)
    assert ctypes.sizeof(Timex) == 208
    assert 9000 <= state.tick <= 11000
    assert abs(state.seconds - time.time()) < 5


@pytest.mark.parametrize("offset_ns", [-1, 1, -1_500_000_000, 2_000_000_001])
def test_a_step_is_given_in_whole_seconds_and_a_positive_rest(offset_ns: int) -> None:
    change = describe_step(offset_ns)
    assert change.modes & ADJ_SETOFFSET
    assert 0 <= change.subseconds < 10**9
    assert change.seconds * 10**9 + change.subseconds == offset_ns


def test_a_slew_takes_the_rate_along() -> None:
    change = describe_slew(-5 * MS, 700_000, 3)
    assert change.status & STA_PLL
    assert (change.offset, change.constant, change.maxerror) == (-5 * MS, 3, 700)


@pytest.mark.parametrize(
    ("offset_ns", "time_constant", "field"),
    [(MAX_SLEW_NS + 1, 2, "offset_ns"), (-MAX_SLEW_NS - 1, 2, "offset_ns"), (1, 11, "time_const")],
)
def test_what_the_kernel_would_cut_off_is_refused(
    offset_ns: int, time_constant: int, field: str
) -> None:
    with pytest.raises(InvalidArgument, match=field):
        describe_slew(offset_ns, 0, time_constant)
