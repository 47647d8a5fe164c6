"""The table of a client's calls: which gave the same under both runtimes, and why others not.

Reasons are read from a file of lines `call: reason`.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.clients.step import Outcomes


def read_reasons(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return dict(line.rsplit(" => ", 1) for line in lines)


def find_unexplained(runs: Mapping[str, Outcomes], reasons: Mapping[str, str]) -> list[str]:
    theirs, ours = runs.values()
    return [name for name in theirs if theirs[name] != ours[name] and name not in reasons]


def print_table(name: str, runs: Mapping[str, Outcomes], reasons: Mapping[str, str]) -> None:
    theirs, ours = runs.values()
    print(f"\n| {name} | under sampan |\n|---|---|")
    for call in theirs:
        if theirs[call] == ours[call]:
            verdict = "the same"
        else:
            verdict = reasons.get(call, "**differs, no known reason**")
        print(f"| `{call}` | {verdict} |", flush=True)


def print_differences(runs: Mapping[str, Outcomes]) -> None:
    theirs, ours = runs.values()
    names = tuple(runs)
    for name in theirs:
        if theirs[name] != ours[name]:
            print(f"\n{name}")
            for runtime, outcome in zip(names, (theirs[name], ours[name]), strict=True):
                print(f"  {runtime}:", *outcome.splitlines(), sep="\n    ", flush=True)
