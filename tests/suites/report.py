"""Two runs of one suite beside each other: counts, and every difference with its reason.

Reasons are read from a file of lines `suite where test: reason`, where `*` stands
for every place.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.suites.suite import Outcomes, differences


def read_known(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.split(": ", 1) for line in lines)


def print_section(
    suite: str, where: str, runs: Mapping[str, tuple[Outcomes, float]], known: Mapping[str, str]
) -> int:
    """`runs`: ours first, then theirs, each with its seconds.  How many have no known reason."""
    print(f"\n## {suite}, {where}\n")
    for name, (outcomes, taken_s) in runs.items():
        counts = ", ".join(f"{n} {kind}" for kind, n in Counter(outcomes.values()).most_common(6))
        print(f"* {name}: {counts} ({taken_s:.0f} s)")
    (ours, _), (theirs, _) = runs.values()
    unknown = 0
    for test, (our, their) in differences(ours, theirs).items():
        reason = known.get(f"{suite} {where} {test}", known.get(f"{suite} * {test}"))
        unknown += reason is None
        print(f"* `{test}`: sampan {our}, runc {their}: {reason or '**no known reason**'}")
    sys.stdout.flush()
    return unknown
