"""How long each step of a machine's set-up takes."""

from time import perf_counter_ns


class Stopwatch:
    """Microseconds of each phase, in their order."""

    def __init__(self) -> None:
        self.timings_us: dict[str, int] = {}
        self.last_ns = perf_counter_ns()

    def lap(self, phase: str) -> None:
        now_ns = perf_counter_ns()
        self.timings_us[phase] = (now_ns - self.last_ns) // 1000
        self.last_ns = now_ns
