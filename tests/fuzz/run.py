#!/usr/bin/env python3
"""Runs the fuzzers, one after the other, and says in a table what they have done.

Each has an equal part of the time.  What was found stays in build/fuzz/findings, and
inputs that reach new code in build/fuzz/corpus, from which the next run goes on.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LONGEST_INPUT = 1024
ONE_INPUT_S = 20
GRACE_S = 60
DONE = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+) .*?exec/s: (\d+)", re.MULTILINE)
EDGES = re.compile(r"\((\d+) inline 8-bit counters\)")


class Outcome(NamedTuple):
    name: str
    executions: int
    a_second: int
    covered: int
    edges: int
    failed: bool


def run_fuzzer(out: Path, name: str, seconds: int) -> Outcome:
    build, harness = name.split("/")
    corpus, findings = out / "corpus" / harness, out / "findings"
    for directory in (corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    log = out / f"{build}-{harness}.log"
    command: list[str | Path] = [
        *("timeout", "--signal=KILL", str(seconds + GRACE_S), "setarch", "-R"),
        out / build / f"fuzz_{harness}",
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-len_control=20"),
        *(f"-timeout={ONE_INPUT_S}", "-detect_leaks=0", "-rss_limit_mb=4000"),
        f"-artifact_prefix={findings}/{build}-{harness}-",
        corpus,
        HERE / "corpus" / harness,
    ]
    with log.open("w") as output:
        status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    text = log.read_text(errors="replace")
    edges, done = EDGES.search(text), DONE.findall(text)
    executions, covered, a_second = map(int, done[-1]) if done else (0, 0, 0)
    failed = status != 0 or not done
    if failed:
        print(f"{name}: found something, or ended early ({status}); the end of {log}:")
        print("\n".join(text.splitlines()[-40:]))
    return Outcome(name, executions, a_second, covered, int(edges[1]) if edges else 0, failed)


def print_table(outcomes: list[Outcome]) -> None:
    print(f"{'fuzzer':22}{'executions':>12}{'exec/s':>9}{'edges':>7}{'of':>6}")
    for o in outcomes:
        row = f"{o.name:22}{o.executions:12}{o.a_second:9}{o.covered:7}{o.edges:6}"
        print(row + ("  FAILED" if o.failed else ""))
    print(f"{'all':22}{sum(o.executions for o in outcomes):12}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, required=True, help="for all together")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="+", help="BUILD/HARNESS")
    arguments = parser.parse_args()
    part = max(1, arguments.seconds // len(arguments.names))
    out = arguments.out.resolve()
    outcomes = [run_fuzzer(out, name, part) for name in arguments.names]
    print_table(outcomes)
    return 1 if any(o.failed for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
