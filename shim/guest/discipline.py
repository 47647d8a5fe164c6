"""How to correct a guest's clock, and when to check it again.

Pure.  shim/guest/clock.py does what is decided here.
"""

from typing import Final, NamedTuple

from proto.clock import STEP_NS, choose_time_constant

MIN_INTERVAL_S: Final = 4
MAX_INTERVAL_S: Final = 256
POOR: Final = 4
"""A reading that is so many times less certain than the best one is not used."""


class ClockOffset(NamedTuple):
    offset_ns: int
    """How far the guest's time is behind the host's."""
    error_ns: int
    """The greatest error of that: half of the call's time."""


class Correction(NamedTuple):
    offset_ns: int
    error_ns: int
    step: bool
    time_constant: int


class Discipline:
    """Pure: judges each reading, and chooses the interval to the next check."""

    def __init__(self) -> None:
        self.interval_s = MIN_INTERVAL_S
        self._best_error_ns = 0
        self._corrected = False

    def decide(self, measured: ClockOffset) -> Correction | None:
        """None where nothing can or need be done."""
        if self._is_poor(measured):
            self.interval_s = MIN_INTERVAL_S
            return None
        off_ns = abs(measured.offset_ns)
        if off_ns <= measured.error_ns:
            self.interval_s = min(self.interval_s * 2, MAX_INTERVAL_S)
            return None
        if off_ns > 2 * measured.error_ns:
            self.interval_s = max(self.interval_s // 2, MIN_INTERVAL_S)
        # A first step forwards makes no program see a time twice.
        step = off_ns > STEP_NS or (not self._corrected and measured.offset_ns > 0)
        self._corrected = True
        return Correction(*measured, step, choose_time_constant(self.interval_s))

    def _is_poor(self, measured: ClockOffset) -> bool:
        """The best reading counts less with time: a host may become slower."""
        best_ns = self._best_error_ns * 9 // 8 or measured.error_ns
        self._best_error_ns = min(best_ns, max(measured.error_ns, 1))
        return measured.error_ns > POOR * best_ns
