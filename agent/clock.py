"""The guest's CLOCK_REALTIME, led to the host's by the kernel's own NTP discipline.

Spec: adjtimex(2); Linux kernel/time/ntp.c; RFC 5905 appendix A.5.6 (the loop).
"""

from typing import Final

from agent.errors import InvalidArgument
from agent.linux import Timex, adjust_clock

ADJ_OFFSET: Final = 0x0001  # linux/timex.h
ADJ_MAXERROR: Final = 0x0004
ADJ_ESTERROR: Final = 0x0008
ADJ_STATUS: Final = 0x0010
ADJ_TIMECONST: Final = 0x0020
ADJ_SETOFFSET: Final = 0x0100
ADJ_NANO: Final = 0x2000
STA_PLL: Final = 0x0001
STA_UNSYNC: Final = 0x0040
"""Kept: whether the host's own time is right is not known here.  Without it the kernel
would write to a clock chip that this machine does not have."""

MAX_SLEW_NS: Final = 500_000_000
"""MAXPHASE: more would be cut off silently."""
MAX_TIME_CONSTANT: Final = 10
"""MAXTC."""
NS: Final = 10**9


def correct(offset_ns: int, error_ns: int, *, step: bool, time_constant: int) -> None:
    """`time_constant` is used for a correction that is not a step alone."""
    if step:
        adjust_clock(describe_step(offset_ns))
    else:
        adjust_clock(describe_slew(offset_ns, error_ns, time_constant))


def describe_step(offset_ns: int) -> Timex:
    seconds, nanoseconds = divmod(offset_ns, NS)
    return Timex(modes=ADJ_SETOFFSET | ADJ_NANO, seconds=seconds, subseconds=nanoseconds)


def describe_slew(offset_ns: int, error_ns: int, time_constant: int) -> Timex:
    if abs(offset_ns) > MAX_SLEW_NS:
        raise InvalidArgument(f"offset_ns: {offset_ns} is more than {MAX_SLEW_NS}: a step")
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
