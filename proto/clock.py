"""How a guest's clock is corrected, by its agent or by the shim.  Pure.

Spec: RFC 5905 §11 and appendix A.5.5; adjtimex(2).
"""

from typing import Final

STEP_NS: Final = 128_000_000
"""RFC 5905's STEPT: a larger offset is corrected by a step, not slowly."""


def choose_time_constant(interval_s: int) -> int:
    """The kernel's time constant: two thirds of a correction are made after `interval_s`,
    which is 2 ** (2 + time constant) seconds."""
    return max((interval_s // 4).bit_length() - 1, 0)
