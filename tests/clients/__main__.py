"""`python3 -m tests.clients docker|podman [SCENARIO…]`: each call under runc and under sampan.

Runs where containerd, both runtimes and the client's programs are installed
(`tests/testhost/run --clients docker`).  podman gets docker's calls.  Prints for each
scenario a Markdown table and every difference in full, and at the end how long a run took.
Exit status 1 when a call differs and its client's file of reasons does not say why.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.clients.dockerd import (
    BY_CALL,
    CLEAN_UP,
    IMAGE,
    PRELUDE,
    import_image,
    running_dockerd,
)
from tests.clients.podman import running_podman
from tests.clients.report import (
    find_unexplained,
    print_differences,
    print_table,
    read_reasons,
)
from tests.clients.step import Outcomes, Scenario, parse_calls, run_scenario, run_step

CALLS = Path(__file__).with_name("docker.calls")
LOG = Path("/var/log/dockerd.log")
TIMED = "run --rm $I true"
ROUNDS = 5


@dataclass(frozen=True)
class Client:
    name: str
    running: Callable[[], AbstractContextManager[None]]
    prelude: str
    """What its calls may use."""
    runtimes: Mapping[str, str]
    """runc's and sampan's names in its calls, in this order."""

    @property
    def reasons(self) -> Path:
        return CALLS.with_name(f"{self.name}.reasons")


CLIENTS = {
    client.name: client
    for client in (
        Client(
            "docker",
            partial(running_dockerd, LOG),
            f"{PRELUDE}{BY_CALL}\n",
            {"runc": "io.containerd.runc.v2", "sampan": "io.containerd.sampan.v2"},
        ),
        Client(
            "podman",
            running_podman,
            f'{PRELUDE}run() {{ docker run "$@"; }}\n',
            {"runc": "runc", "sampan": shutil.which("sampan") or "sampan"},
        ),
    )
}


def compare(client: Client, scenario: Scenario) -> dict[str, Outcomes]:
    runs = {}
    for name, runtime in client.runtimes.items():
        env = {"RUNTIME": runtime, "I": IMAGE}
        runs[name] = run_scenario(scenario, client.prelude, env)
        subprocess.run(["bash", "-c", CLEAN_UP], check=False)
    return runs


def measure(client: Client) -> None:
    """In turns, so that both see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in client.runtimes}
    for _ in range(ROUNDS):
        for name, runtime in client.runtimes.items():
            started = time.monotonic()
            env = {"RUNTIME": runtime, "I": IMAGE}
            run_step(client.prelude + TIMED, env, Path("/tmp"))
            taken[name].append(time.monotonic() - started)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    told = ", ".join(f"{name} {median:.2f} s" for name, median in medians.items())
    print(f"\n`{client.name} run --rm IMAGE true`, median of {ROUNDS}: {told}", end="")
    print(f", ratio {medians['sampan'] / medians['runc']:.2f}")


def report(client: Client, scenarios: tuple[Scenario, ...]) -> int:
    reasons = read_reasons(client.reasons)
    unexplained: list[str] = []
    for scenario in scenarios:
        runs = compare(client, scenario)
        print_table(scenario.name, runs, reasons)
        print_differences(runs)
        unexplained += find_unexplained(runs, reasons)
    if unexplained:
        print("\nno known reason:", *unexplained, sep="\n  ")
    return 1 if unexplained else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all, if none is named")
    options = parser.parse_args()
    known = {scenario.name: scenario for scenario in parse_calls(CALLS.read_text())}
    chosen = tuple(known[name] for name in options.scenarios or known)
    client = CLIENTS[options.client]
    os.environ["DOCKER_CLI_HINTS"] = "false"
    subprocess.run(["sampan", "template", "create"], check=True, stdout=subprocess.DEVNULL)
    with client.running():
        import_image()
        status = report(client, chosen)
        measure(client)
    return status


if __name__ == "__main__":
    sys.exit(main())
