"""The run: sampan and runc in turn, in one run on one host.

Every round measures each runtime once, A B A B, so that what drifts on the
host drifts for both.  Writes JSON, prints Markdown.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Final

from benchmarks import measures
from benchmarks.ctr import CtrError, Runtime
from benchmarks.host import read_facts
from benchmarks.measures import Measure, Settings
from benchmarks.report import Figures, render_markdown

RUNTIMES: Final = (
    Runtime("sampan", "io.containerd.sampan.v2"),
    Runtime("runc", "io.containerd.runc.v2"),
)
DEFAULT_IMAGE: Final = "localhost/sampan/busybox:1"


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    settings = Settings(options.image, options.stdout_mib, options.execs, options.idle)
    if not measures.has_image(settings.image):
        print(f"benchmarks: containerd has no image {settings.image}", file=sys.stderr)
        return 1
    figures = Figures(
        measures.now_text(),
        read_facts(),
        {"rounds": options.rounds, **asdict(settings)},
        tuple(runtime.name for runtime in RUNTIMES),
    )
    measure_all(figures, measures.warm_up, settings)
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
        for measure in measures.MEASURES:
            measure_all(figures, measure, settings)
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    Path(options.json).write_text(json.dumps(figures.to_json(), indent=1) + "\n")
    print(render_markdown(figures), end="")
    return 1 if figures.failures else 0


def parse_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", default=DEFAULT_IMAGE)
    parser.add_argument("--stdout-mib", type=int, default=256)
    parser.add_argument("--execs", type=int, default=3, help="execs a round")
    parser.add_argument("--idle", type=int, default=1, help="containers that idle at a time")
    parser.add_argument("--json", default="build/bench.json", metavar="FILE")
    return parser.parse_args(arguments)


def measure_all(figures: Figures, measure: Measure, settings: Settings) -> None:
    """What fails is reported at the end; the rest is still measured."""
    for runtime in RUNTIMES:
        try:
            for found in measure(runtime, settings):
                figures.add(runtime.name, found)
        except (CtrError, ValueError, OSError, TimeoutExpired) as error:
            figures.failures.append(f"{runtime.name}: {error}")
            print(f"benchmarks: {runtime.name}: {error}", file=sys.stderr, flush=True)
