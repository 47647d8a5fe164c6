"""`python3 -m benchmarks.idle`: the memory that each of many idle containers costs.

PSS at each number of containers, by shim, vmm, guest and each one's share of the warm
server; sampan from a template, then runc.  Prints Markdown.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.ctr import Runtime, running, time_run
from benchmarks.measures import find_shared, read_idle
from benchmarks.memory import WARM, list_pids
from benchmarks.runtimes import RUNC, SAMPAN, make_template

IMAGE: Final = "localhost/sampan/busybox:1"
COUNTS: Final = (1, 10, 50)


@dataclass(frozen=True, slots=True)
class Sample:
    containers: int
    pss_mib: dict[str, float]
    """For each container, by the processes' names."""
    wakeups_s: float

    @property
    def total_mib(self) -> float:
        return sum(self.pss_mib.values())

    @property
    def warm_mib(self) -> float:
        """Memory of the warm server, counted once for all of them."""
        return self.pss_mib.get(WARM, 0.0) * self.containers


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.idle", description=__doc__)
    parser.add_argument("--count", type=int, action="append", help="containers, in turn")
    counts = parser.parse_args(arguments).count or COUNTS
    make_template()
    found = {}
    for runtime in (Runtime("sampan", SAMPAN), Runtime("runc", RUNC)):
        time_run(runtime, IMAGE, "echo", "x")  # starts the warm server, which keeps running
        found[runtime.name] = list(measure(runtime, sorted(counts)))
    print(render(found), end="")
    return 0


def measure(runtime: Runtime, counts: list[int]) -> Iterator[Sample]:
    """Adds containers for each step; all are removed at the end."""
    before = list_pids()
    with ExitStack() as stack:
        there = 0
        for count in counts:
            for _ in range(count - there):
                stack.enter_context(running(runtime, IMAGE, "sleep", "1000000"))
            there = count
            print(f"{runtime.name}: {there} containers run", file=sys.stderr, flush=True)
            yield Sample(there, *read_idle(before, there, find_shared(runtime)))


def render(found: dict[str, list[Sample]]) -> str:
    lines = [
        "| idle containers (counts) | PSS of each, MiB | of that | wake-ups a second of each |",
        "|---|---|---|---|",
    ]
    for runtime, samples in found.items():
        for sample in samples:
            parts = ", ".join(f"{name} {size:.1f}" for name, size in sample.pss_mib.items())
            lines.append(
                f"| {runtime}: {sample.containers} | {sample.total_mib:.1f} | {parts}"
                f" | {sample.wakeups_s:.0f} |"
            )
        warm = [f"{sample.warm_mib:.1f}" for sample in samples if sample.warm_mib]
        if warm:
            numbers = ", ".join(str(sample.containers) for sample in samples)
            lines.append(
                f"| {runtime}: the warm server at {numbers} containers | {', '.join(warm)} "
                "| once for all, shared out above | |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
