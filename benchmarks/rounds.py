"""Rounds: each measures every runtime once, A B C A B C, so that a host that becomes
slower does so for all of them."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, TypeVar

from benchmarks.ctr import CtrError, Runtime, wait_for
from benchmarks.host import read_facts
from benchmarks.measures import Found, now_text
from benchmarks.report import Figures

Chosen = TypeVar("Chosen")
"""The settings of a measure: a dataclass."""


def begin_figures(runtimes: tuple[Runtime, ...], rounds: int, settings: Any) -> Figures:
    names = tuple(runtime.name for runtime in runtimes)
    return Figures(now_text(), read_facts(), {"rounds": rounds, **asdict(settings)}, names)


def measure_rounds(
    figures: Figures,
    runtimes: tuple[Runtime, ...],
    measures: Iterable[Callable[[Runtime, Chosen], Iterator[Found]]],
    settings: Chosen,
    rounds: int,
) -> None:
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for measure in measures:
            measure_all(figures, runtimes, measure, settings)


def measure_all(
    figures: Figures,
    runtimes: tuple[Runtime, ...],
    measure: Callable[[Runtime, Chosen], Iterator[Found]],
    settings: Chosen,
) -> None:
    """A failure is reported at the end, and the rest is still measured."""
    for runtime in runtimes:
        try:
            for found in measure(runtime, settings):
                figures.add(runtime.name, found)
            wait_for(runtime)  # so that no prewarmed machine is made while something is measured
        except (CtrError, ValueError, OSError, TimeoutExpired) as error:
            figures.failures.append(f"{runtime.name}: {error}")
            print(f"benchmarks: {runtime.name}: {error}", file=sys.stderr, flush=True)


def save(figures: Figures, path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(figures.to_json(), indent=1) + "\n")
