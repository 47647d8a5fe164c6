"""`python3 -m tests.soak [--seconds S] [--seed N] [--most K]`: see the package.

Runs where containerd has sampan.  Prints one line a wrong answer and, at the
end, a Markdown report: actions by kind, footprints of the long-lived processes
before and after, what is left on the host.  Exit status 1 when an answer was
wrong, something has grown or something is left.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple

from tests.e2e.ctr import Ctr
from tests.e2e.host import read_host, wait_unchanged
from tests.soak.driver import Driver
from tests.soak.footprint import Footprint, find_growth, read_footprints
from tests.soak.model import Action, Model, Step

WARM_UP_STEPS = 20
LIST_EVERY = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--most", type=int, default=3, help="containers at a time")
    options = parser.parse_args()
    host = read_host()
    ctr, model = Ctr(), Model(options.most)
    done: Counter[str] = Counter()
    wrong: list[str] = []
    footprints: dict[str, Footprint] = {}
    try:
        driver = Driver(ctr)
        for step in choose_steps(model, options.seed, options.seconds):
            outcome = "done" if model.succeeds(step) else "refused"
            problems = [driver.check(step, model)]
            done[f"{step.action} {outcome}"] += 1
            if done.total() % LIST_EVERY == 0:
                problems.append(driver.compare_list(model))
            for problem in filter(None, problems):
                wrong.append(f"step {done.total()}, {step}: {problem}")
                print(wrong[-1], flush=True)
            if done.total() == WARM_UP_STEPS:
                footprints = read_footprints()
        after = read_footprints()
    finally:
        for name in list(model.containers):
            ctr.remove(name)
    left = wait_unchanged(host)
    grown = find_growth(footprints, after)
    report(options, done, footprints, after)
    for line in [*wrong, *grown, *left]:
        print(f"* WRONG: {line}")
    return 1 if wrong or grown or left or not footprints else 0


def choose_steps(model: Model, seed: int, seconds: float) -> Iterator[Step]:
    dice = random.Random(seed)
    deadline = time.monotonic() + seconds
    yield Step(Action.START, "soak-0", 0)
    while time.monotonic() < deadline:
        yield model.choose(dice)


def report(
    options: argparse.Namespace,
    done: Counter[str],
    before: dict[str, Footprint],
    after: dict[str, Footprint],
) -> None:
    print(f"\n{done.total()} steps in {options.seconds:g} s, seed {options.seed}\n")
    for what, count in sorted(done.items()):
        print(f"* {what}: {count}")
    print("\n| process | descriptors, threads, KiB of its own | at the end |\n|---|---|---|")
    for name in sorted(before.keys() & after.keys()):
        print(f"| {name} | {astuple(before[name])} | {astuple(after[name])} |")


if __name__ == "__main__":
    sys.exit(main())
