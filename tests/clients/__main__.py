"""`python3 -m tests.clients docker [SCENARIO…]`: each call under runc and under sampan.

Runs where containerd, both runtimes and the client's programs are installed
(`tests/testhost/run --clients docker`).  Prints for each scenario a Markdown table and
every difference in full, and at the end how long a run took.  Exit status 1 when a call
differs and its client's file of reasons does not say why.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.clients.dockerd import CLEAN_UP, IMAGE, PRELUDE, import_image, running_dockerd
from tests.clients.report import (
    find_unexplained,
    print_differences,
    print_table,
    read_reasons,
)
from tests.clients.step import Outcomes, Scenario, parse_calls, run_scenario, run_step

RUNTIMES = {"runc": "io.containerd.runc.v2", "sampan": "io.containerd.sampan.v2"}
CALLS = Path(__file__).with_name("docker.calls")
REASONS = Path(__file__).with_name("docker.reasons")
LOG = Path("/var/log/dockerd.log")
TIMED = "run --rm $I true"
ROUNDS = 5


def compare(scenario: Scenario) -> dict[str, Outcomes]:
    runs = {}
    for name, runtime in RUNTIMES.items():
        env = {"RUNTIME": runtime, "I": IMAGE}
        runs[name] = run_scenario(scenario, PRELUDE, env)
        subprocess.run(["bash", "-c", CLEAN_UP], check=False)
    return runs


def measure() -> None:
    """In turns, so that both see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in RUNTIMES}
    for _ in range(ROUNDS):
        for name, runtime in RUNTIMES.items():
            started = time.monotonic()
            env = {"RUNTIME": runtime, "I": IMAGE}
            run_step(PRELUDE + TIMED, env, Path("/tmp"))
            taken[name].append(time.monotonic() - started)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    told = ", ".join(f"{name} {median:.2f} s" for name, median in medians.items())
    print(f"\n`docker run --rm IMAGE true`, median of {ROUNDS}: {told}", end="")
    print(f", ratio {medians['sampan'] / medians['runc']:.2f}")


def report(scenarios: tuple[Scenario, ...], reasons: Mapping[str, str]) -> int:
    unexplained: list[str] = []
    for scenario in scenarios:
        runs = compare(scenario)
        print_table(scenario.name, runs, reasons)
        print_differences(runs)
        unexplained += find_unexplained(runs, reasons)
    if unexplained:
        print("\nno known reason:", *unexplained, sep="\n  ")
    return 1 if unexplained else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=["docker"])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all, if none is named")
    options = parser.parse_args()
    known = {scenario.name: scenario for scenario in parse_calls(CALLS.read_text())}
    chosen = tuple(known[name] for name in options.scenarios or known)
    os.environ["DOCKER_CLI_HINTS"] = "false"
    subprocess.run(["sampan", "template", "create"], check=True, stdout=subprocess.DEVNULL)
    with running_dockerd(LOG):
        import_image()
        status = report(chosen, read_reasons(REASONS))
        measure()
    return status


if __name__ == "__main__":
    sys.exit(main())
