"""`python3 -m tests.conformance --binaries DIR`: shimtest, sampan beside runc.

Runs where both shims are installed; needs no containerd.  `--binaries` has what
`make shimtest` builds: shimtest.test and testbin.  Prints a Markdown report;
keeps each run's whole output in --log.  sampan alone is judged: exit status 1 when a
test of its own failed, when it left something behind, or when it did not run a test
that runc passed and known.txt does not say why.  What runc fails or leaves is shown.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.capabilities import is_emulated
from tests.conformance.shimtest import SHIMS, SKIPPED, make_template, run_shimtest
from tests.e2e.host import read_host, wait_unchanged
from tests.suites.report import print_section, read_known
from tests.suites.suite import Outcomes, parse_go

KNOWN = Path(__file__).with_name("known.txt")
STRESS: Final = "-test.run=TestShim/shim/Stress"
PASSES: Final = {
    "suites": ("-test.short", "-test.timeout=1800s"),
    "stress-lifecycle": (f"{STRESS}/Lifecycle", "-test.timeout=240s"),
}
"""The stress tests take whatever time they are given, less a minute: a run for each."""
PASSES_IN_TIME: Final = {"stress-exec": (f"{STRESS}/Exec", "-test.timeout=240s")}
LEFT: Final = "(left on the host)"
TOO_SLOW: Final = (
    "`Stress/Exec` not run: it gives four execs that move up to 32 MiB each 5 s of the wall's "
    "clock, which an emulated processor does not keep"
)


def run_passes(shim: str, binaries: Path, log: Path) -> Outcomes:
    outcomes: Outcomes = {}
    passes = PASSES if is_emulated() else PASSES | PASSES_IN_TIME
    for name, flags in passes.items():
        found = run_suite(shim, binaries, log, name, flags)
        status = found.pop("(exit status)")
        outcomes.update({test: end for test, end in found.items() if "/iter" not in test})
        outcomes[f"({name}: exit status)"] = status
    return outcomes


def run_suite(shim: str, binaries: Path, log: Path, name: str, flags: tuple[str, ...]) -> Outcomes:
    output = log / f"{shim}-{name}.log"
    status = run_shimtest(shim, binaries, output, ("-test.v", *flags))
    return parse_go(output.read_text(errors="replace"), status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--log", type=Path, default=Path("/tmp/conformance"))
    options = parser.parse_args()
    options.log.mkdir(parents=True, exist_ok=True)
    make_template()
    runs = {}
    for runtime, shim in SHIMS.items():
        before = read_host()
        started = time.monotonic()
        outcomes = run_passes(shim, options.binaries, options.log)
        outcomes[LEFT] = "; ".join(wait_unchanged(before)) or "nothing"
        runs[runtime] = outcomes, time.monotonic() - started
    known = read_known(KNOWN)
    print_section("shimtest", "host", runs, known)
    for feature, reason in SKIPPED.items():
        print(f"* suite `{feature}` not run: {reason}")
    if is_emulated():
        print(f"* {TOO_SLOW}")
    (ours, _), (theirs, _) = runs.values()
    wrong = find_failures(ours) + find_missing(ours, theirs, known)
    for test in wrong:
        print(f"* FAILED: `{test}`: sampan {ours.get(test, 'absent')}")
    return 1 if wrong else 0


def find_missing(ours: Outcomes, theirs: Outcomes, known: Mapping[str, str]) -> list[str]:
    """Tests that runc passed and sampan neither passed nor failed, for no known reason."""
    return [
        test
        for test, outcome in theirs.items()
        if outcome == "PASS"
        and ours.get(test) not in ("PASS", "FAIL")
        and not {f"shimtest host {test}", f"shimtest * {test}"} & known.keys()
    ]


def find_failures(outcomes: Outcomes) -> list[str]:
    """Of sampan's outcomes.  What a test leaves behind shows in the exit status alone."""
    return [
        test
        for test, outcome in outcomes.items()
        if outcome == "FAIL"
        or (test.endswith("exit status)") and outcome != "0")
        or (test == LEFT and outcome != "nothing")
    ]


if __name__ == "__main__":
    sys.exit(main())
