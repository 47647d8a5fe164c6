#!/usr/bin/env python3
"""Runs the fuzzers, one after the other, and says in a table what they have done.

Each has an equal part of the time.  What was found stays in build/fuzz/findings, and
inputs that reach new code in build/fuzz/corpus, from which the next run goes on.  Each
run is a line of build/fuzz/runs.jsonl; the table adds up those since that was removed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LONGEST_INPUT = 1024
RUNS = "runs.jsonl"
ONE_INPUT_S = 20
GRACE_S = 300
DONE = re.compile(r"^#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) ", re.MULTILINE)
EDGES = re.compile(r"\((\d+) inline 8-bit counters\)")


VARIABLES = {
    "ext4": {"FUZZ_BELOW": "ext4"},
    "overlay": {"FUZZ_BELOW": "overlay"},
    "tap": {"FUZZ_WIRE": "tap"},
    "vhost": {"FUZZ_WIRE": "vhost"},
}
"""What a harness is to work on, and needs root; after an @ in a fuzzer's name."""


class Outcome(NamedTuple):
    name: str
    seconds: int
    executions: int
    covered: int
    edges: int
    features: int
    failed: bool


def run_fuzzer(out: Path, name: str, seconds: int) -> Outcome:
    program, _, variant = name.partition("@")
    build, harness = program.split("/")
    corpus, findings = out / "corpus" / harness, out / "findings"
    for directory in (corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    title = name.replace("/", "-")
    log = out / f"{title}.log"
    command: list[str | Path] = [
        *("timeout", "--signal=KILL", str(seconds + GRACE_S), "setarch", "-R"),
        out / build / f"fuzz_{harness}",
        *(f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", "-len_control=20"),
        *(f"-timeout={ONE_INPUT_S}", "-detect_leaks=0", "-rss_limit_mb=4000"),
        f"-artifact_prefix={findings}/{title}-",
        corpus,
        HERE / "corpus" / harness,
    ]
    environment = {**os.environ, **VARIABLES.get(variant, {})}
    with log.open("w") as output:
        status = subprocess.run(
            command, stdout=output, stderr=output, check=False, env=environment
        ).returncode
    text = log.read_text(errors="replace")
    edges, done = EDGES.search(text), DONE.findall(text)
    executions, covered, features = map(int, done[-1]) if done else (0, 0, 0)
    failed = status != 0 or not done
    if failed:
        print(f"{name}: found something, or ended early ({status}); the end of {log}:")
        print("\n".join(text.splitlines()[-40:]))
    return Outcome(
        name, seconds, executions, covered, int(edges[1]) if edges else 0, features, failed
    )


def note(out: Path, outcome: Outcome) -> None:
    with (out / RUNS).open("a") as file:
        file.write(json.dumps(outcome._asdict()) + "\n")


def add_up(out: Path) -> list[Outcome]:
    """One for each fuzzer, of all its runs: sums of time and executions, else the most."""
    found: dict[str, list[Outcome]] = {}
    for line in (out / RUNS).read_text().splitlines():
        outcome = Outcome(**json.loads(line))
        found.setdefault(outcome.name, []).append(outcome)
    return [
        Outcome(
            name,
            seconds=sum(o.seconds for o in runs),
            executions=sum(o.executions for o in runs),
            covered=max(o.covered for o in runs),
            edges=max(o.edges for o in runs),
            features=max(o.features for o in runs),
            failed=any(o.failed for o in runs),
        )
        for name, runs in found.items()
    ]


def print_table(outcomes: list[Outcome]) -> None:
    print(f"{'fuzzer':20}{'seconds':>9}{'executions':>12}{'edges':>7}{'of':>6}{'features':>10}")
    for o in outcomes:
        row = f"{o.name:20}{o.seconds:9}{o.executions:12}{o.covered:7}{o.edges:6}{o.features:10}"
        print(row + ("  FAILED" if o.failed else ""))
    print(f"{'all':20}{sum(o.seconds for o in outcomes):9}{sum(o.executions for o in outcomes):12}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, required=True, help="for all together")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="+", help="BUILD/HARNESS[@VARIANT]")
    arguments = parser.parse_args()
    part = max(1, arguments.seconds // len(arguments.names))
    out = arguments.out.resolve()
    failed = False
    for name in arguments.names:
        outcome = run_fuzzer(out, name, part)
        note(out, outcome)
        failed |= outcome.failed
    print_table(add_up(out))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
