"""Keeps a guest's time of day at the host's, where the guest cannot do it by itself
(agent/clock.py): looks at it now and then, corrects it.

A guest counts on with the processor's rate alone, while NTP leads the host's clock;
files have the host's times and programs the guest's.  How often it looks follows
from how much there is to correct: a guest whose rate is known costs a call every
few minutes.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from proto.clock import STEP_NS, choose_time_constant
from shim.errors import SampanError

if TYPE_CHECKING:
    from shim.guest.client import AgentClient

FIRST_LOOK_S: Final = 1
"""A clone's time was right when it was sent: it is behind by the way there."""
MIN_INTERVAL_S: Final = 4
MAX_INTERVAL_S: Final = 256
POOR: Final = 4
"""A look that is so many times less certain than the best one says nothing."""
log = logging.getLogger(__name__)


class Look(NamedTuple):
    offset_ns: int
    """What the guest's time lacks."""
    error_ns: int
    """How wrong that may be: half of the call's time."""


class Correction(NamedTuple):
    offset_ns: int
    error_ns: int
    step: bool
    time_constant: int


class Discipline:
    """Pure: what to do about what was seen, and when to look again."""

    def __init__(self) -> None:
        self.interval_s = MIN_INTERVAL_S
        self._best_error_ns = 0
        self._corrected = False

    def judge(self, look: Look) -> Correction | None:
        """None where nothing can or need be done."""
        if self._is_poor(look):
            self.interval_s = MIN_INTERVAL_S
            return None
        off_ns = abs(look.offset_ns)
        if off_ns <= look.error_ns:
            self.interval_s = min(self.interval_s * 2, MAX_INTERVAL_S)
            return None
        if off_ns > 2 * look.error_ns:
            self.interval_s = max(self.interval_s // 2, MIN_INTERVAL_S)
        # Forwards and at the beginning a step takes nothing from anybody.
        step = off_ns > STEP_NS or (not self._corrected and look.offset_ns > 0)
        self._corrected = True
        return Correction(*look, step, choose_time_constant(self.interval_s))

    def _is_poor(self, look: Look) -> bool:
        """The best one is forgotten little by little: a host may become slower."""
        best_ns = self._best_error_ns * 9 // 8 or look.error_ns
        self._best_error_ns = min(best_ns, max(look.error_ns, 1))
        return look.error_ns > POOR * best_ns


async def keep_clock(agent: "AgentClient") -> None:
    """Until it is cancelled or the guest is gone."""
    discipline = Discipline()
    wait_s = FIRST_LOOK_S
    try:
        while True:
            await asyncio.sleep(wait_s)
            look = await look_at_clock(agent)
            if look is None:
                wait_s = MAX_INTERVAL_S  # it does without us, as long as its host tells the time
                continue
            if (correction := discipline.judge(look)) is not None:
                log.debug("the guest's clock: %s", correction)
                await agent.correct_clock(correction)
            wait_s = discipline.interval_s
    except SampanError as error:
        log.info("the guest's clock is looked at no more: %s", error)


async def look_at_clock(agent: "AgentClient") -> Look | None:
    before_ns = time.time_ns()
    started_ns = time.monotonic_ns()
    guest_ns = await agent.read_clock()
    error_ns = (time.monotonic_ns() - started_ns) // 2
    if guest_ns is None:
        return None
    return Look(before_ns + error_ns - guest_ns, error_ns)
