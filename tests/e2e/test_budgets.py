"""What a container costs stays within benchmarks/budgets.toml: counts and memory, no times."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ctr import Runtime
from benchmarks.measures import Measure, Settings, measure_idle, measure_run
from benchmarks.runtimes import make_sampan
from tests.e2e.ctr import BUSYBOX, SAMPAN

BUDGETS = tomllib.loads(
    (Path(__file__).resolve().parents[2] / "benchmarks/budgets.toml").read_text()
)
SETTINGS = Settings(BUSYBOX, stdout_mib=1, execs=1, idle=1)


@pytest.fixture(params=["template", pytest.param("cold", marks=pytest.mark.slow)])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    if request.param == "template":
        return Runtime("template", SAMPAN)
    return make_sampan("cold", tmp_path, templates="never")


def measure(what: Measure, runtime: Runtime) -> tuple[dict[str, float], dict[str, Any]]:
    (found,) = what(runtime, SETTINGS)
    return found.samples, found.details


def test_a_container_stays_within_its_budget(runtime: Runtime) -> None:
    measure(measure_run, runtime)  # the first one, which has costs of its own
    samples, _ = measure(measure_run, runtime)
    idle, details = measure(measure_idle, runtime)
    boot = details["boot"]
    costs = {
        "programs_started": samples["run_execs"],
        "exits_until_agent": sum(boot["exits"].values()),
        "fuse_requests_until_agent": sum(sum(by.values()) for by in boot["requests"].values()),
        "idle_pss_mib": idle["idle_pss_mib"],
        "warm_pss_mib": idle["warm_pss_mib"],
        "idle_wakeups_s": idle["idle_wakeups_s"],
    }
    print(costs)
    budget = BUDGETS[runtime.name]
    over = {name: cost for name, cost in costs.items() if cost > budget[name]}
    assert not over, f"more than {budget}"
