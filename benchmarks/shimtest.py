"""`python3 -m benchmarks.shimtest --binaries DIR`: containerd's own benchmarks of shims.

Those of github.com/containerd/shimtest, sampan from a template and runc in turn, without
containerd.  Prints a Markdown table of each one's results for an operation, the mean of
--times.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Final

from benchmarks.host import name_ground, read_processor
from benchmarks.report import render
from tests.conformance.shimtest import SHIMS, make_template, run_shimtest

RESULT: Final = re.compile(r"^BenchmarkShim/shim/(\S+?)(?:-\d+)?\s+\d+\s+(.*)$", re.MULTILINE)
FIGURE: Final = re.compile(r"([\d.]+) (\S+)")
NS_PER_MS: Final = 10**6
UNITS: Final = {"ns/op": ("ms", NS_PER_MS), "MB/s": ("MB/s, more is better", 1)}
TIMEOUT: Final = "-test.timeout=3600s"
Results = dict[str, float]


def parse_results(output: str) -> Results:
    """`BenchmarkShim/shim/Run/Start-2  3  1234 ns/op  5.0 ms/create`: by name and unit."""
    results: Results = {}
    for name, figures in RESULT.findall(output):
        for value, unit in FIGURE.findall(figures):
            title, divisor = UNITS.get(unit, (unit, 1))
            results[f"{name}, {title}"] = float(value) / divisor
    return results


def render_table(runs: dict[str, Results], ground: str) -> str:
    """The others are compared with the last one."""
    *_, base = runs
    names = list(dict.fromkeys(name for results in runs.values() for name in results))
    lines = [f"| shimtest, {ground} | {' | '.join(runs)} | ratio |", "|---" * (len(runs) + 2) + "|"]
    for name in names:
        values = [results.get(name) for results in runs.values()]
        cells = ["–" if value is None else render(value) for value in values]
        first, last = values[0], runs[base].get(name)
        ratio = "–" if first is None or not last else f"{first / last:.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--log", type=Path, default=Path("/tmp/shimtest"))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", default="", metavar="REGEXP", help="of `Run/Start` and the like")
    options = parser.parse_args()
    options.log.mkdir(parents=True, exist_ok=True)
    make_template()
    chosen = f"-test.bench=BenchmarkShim/shim/{options.only}"
    flags = ("-test.run=^$", chosen, f"-test.benchtime={options.times}x", TIMEOUT)
    status = 0
    runs = {}
    for runtime, shim in SHIMS.items():
        output = options.log / f"{shim}.log"
        status |= run_shimtest(shim, options.binaries, output, flags)
        runs[runtime] = parse_results(output.read_text(errors="replace"))
    print(render_table(runs, name_ground(read_processor())))
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
