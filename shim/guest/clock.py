"""Keeps a guest's clock equal to the host's, where the guest cannot do it by itself
(agent/clock.py): checks it from time to time and corrects it.

A guest's clock follows the processor's rate alone, while NTP corrects the host's;
files have the host's times, programs see the guest's.  The less there is to correct,
the longer the interval between checks: a guest whose rate is known costs a call
every few minutes.
"""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from shim.errors import SampanError
from shim.guest.discipline import MAX_INTERVAL_S, ClockOffset, Discipline

if TYPE_CHECKING:
    from shim.guest.client import AgentClient

FIRST_CHECK_S: Final = 1
"""A clone's time was right when it was sent: it is late by the time in transit."""
log = logging.getLogger(__name__)


async def keep_clock(agent: "AgentClient") -> None:
    """Until it is cancelled or the guest is gone."""
    discipline = Discipline()
    wait_s = FIRST_CHECK_S
    try:
        while True:
            await asyncio.sleep(wait_s)
            measured = await measure_clock(agent)
            if measured is None:
                wait_s = MAX_INTERVAL_S  # it corrects itself, while KVM gives it the host's time
                continue
            if (correction := discipline.decide(measured)) is not None:
                log.debug("the guest's clock: %s", correction)
                await agent.correct_clock(correction)
            wait_s = discipline.interval_s
    except SampanError as error:
        log.info("the guest's clock is not corrected any more: %s", error)


async def measure_clock(agent: "AgentClient") -> ClockOffset | None:
    before_ns = time.time_ns()
    started_ns = time.monotonic_ns()
    guest_ns = await agent.read_clock()
    error_ns = (time.monotonic_ns() - started_ns) // 2
    if guest_ns is None:
        return None
    return ClockOffset(before_ns + error_ns - guest_ns, error_ns)
