"""Keeps the guest's CLOCK_REALTIME at the host's time, by the kernel's own NTP
discipline.

Where KVM gives the host's time (ptp_kvm; only if the host's clock source is the
TSC) the guest corrects its clock itself; elsewhere the shim reads and corrects it.
Spec: adjtimex(2); clock_getres(2), dynamic clocks; Linux kernel/time/ntp.c,
drivers/ptp/ptp_kvm_common.c; RFC 5905 appendix A.5.6 (the loop).
"""

import asyncio
import os
import time
from typing import Final

from agent.console import say
from agent.errors import InvalidArgument
from agent.linux import Timex, adjust_clock
from proto.clock import STEP_NS, choose_time_constant

ADJ_OFFSET: Final = 0x0001  # linux/timex.h
ADJ_MAXERROR: Final = 0x0004
ADJ_ESTERROR: Final = 0x0008
ADJ_STATUS: Final = 0x0010
ADJ_TIMECONST: Final = 0x0020
ADJ_SETOFFSET: Final = 0x0100
ADJ_NANO: Final = 0x2000
STA_PLL: Final = 0x0001
STA_UNSYNC: Final = 0x0040
"""Kept set: the guest cannot know whether the host's own time is right.  Without it the kernel
would write to a clock chip that this machine does not have."""

MAX_SLEW_NS: Final = 500_000_000
"""MAXPHASE: the kernel silently limits a greater value to it."""
MAX_TIME_CONSTANT: Final = 10
"""MAXTC."""
NS: Final = 10**9
PTP_CLASS: Final = "/sys/class/ptp"
PTP_NAME: Final = "KVM virtual PTP"
READINGS: Final = 5
"""The reading that took the least time is used."""
FIRST_INTERVAL_S: Final = 4
MAX_INTERVAL_S: Final = 64


class HostClock:
    """KVM's clock device, if there is one: open() once its driver is loaded."""

    def __init__(self) -> None:
        self._id = time.CLOCK_REALTIME  # the process's own clock until the device is open
        self._corrections: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._id != time.CLOCK_REALTIME

    def open(self) -> None:
        devices = os.listdir(PTP_CLASS) if os.path.isdir(PTP_CLASS) else []
        for device in devices:
            with open(f"{PTP_CLASS}/{device}/clock_name") as file:
                name = file.read().strip()
            if name == PTP_NAME:
                fd = os.open(f"/dev/{device}", os.O_RDONLY | os.O_CLOEXEC)
                self._id = (~fd << 3) | 3  # linux/posix-timers.h: FD_TO_CLOCKID
                self._corrections = asyncio.create_task(self._correct_repeatedly())

    def read_offset(self) -> tuple[int, int]:
        """Nanoseconds that the guest's time is behind, and the greatest error of
        that."""
        readings = [self._read_once() for _ in range(READINGS)]
        return min(readings, key=lambda reading: reading[1])

    def _read_once(self) -> tuple[int, int]:
        before_ns = time.time_ns()
        host_ns = time.clock_gettime_ns(self._id)
        half_ns = (time.time_ns() - before_ns) // 2
        return host_ns - before_ns - half_ns, half_ns

    def set_time(self) -> None:
        """Steps the clock to the host's time."""
        self._correct(0)

    async def _correct_repeatedly(self) -> None:
        self.set_time()
        interval_s = FIRST_INTERVAL_S
        while self.is_open:
            await asyncio.sleep(interval_s)
            interval_s = min(interval_s * 2, MAX_INTERVAL_S)
            self._correct(interval_s)

    def _correct(self, interval_s: int) -> None:
        """`interval_s`: seconds until the next check; 0: step at once.  A host that
        has changed its clock source no longer gives its time."""
        if not self.is_open:
            return
        try:
            offset_ns, error_ns = self.read_offset()
            step = interval_s == 0 or abs(offset_ns) > STEP_NS
            constant = choose_time_constant(interval_s)
            correct(offset_ns, error_ns, step=step, time_constant=constant)
        except OSError as error:
            say(f"KVM no longer gives the host's time: {error}")
            self._id = time.CLOCK_REALTIME


def correct(offset_ns: int, error_ns: int, *, step: bool, time_constant: int) -> None:
    """`time_constant` is used unless the correction is only a step."""
    if step:
        adjust_clock(describe_step(offset_ns))
    else:
        adjust_clock(describe_slew(offset_ns, error_ns, time_constant))


def describe_step(offset_ns: int) -> Timex:
    seconds, nanoseconds = divmod(offset_ns, NS)
    return Timex(modes=ADJ_SETOFFSET | ADJ_NANO, seconds=seconds, subseconds=nanoseconds)


def describe_slew(offset_ns: int, error_ns: int, time_constant: int) -> Timex:
    if abs(offset_ns) > MAX_SLEW_NS:
        raise InvalidArgument(
            f"offset_ns: {offset_ns} is more than {MAX_SLEW_NS}: only a step corrects it"
        )
    if time_constant > MAX_TIME_CONSTANT:
        raise InvalidArgument(f"time_constant: {time_constant} is more than {MAX_TIME_CONSTANT}")
    error_us = max(error_ns, 0) // 1000
    return Timex(
        modes=ADJ_OFFSET | ADJ_STATUS | ADJ_TIMECONST | ADJ_MAXERROR | ADJ_ESTERROR | ADJ_NANO,
        offset=offset_ns,
        status=STA_PLL | STA_UNSYNC,
        constant=time_constant,
        maxerror=error_us,
        esterror=error_us,
    )
