"""The run: sampan from a template, sampan cold, crun (in runc's shim) and runc in turn, in
one run on one host.

Every round measures each once, A B C D A B C D, so that what drifts on the host
drifts for all.  Writes JSON and, beside it, a picture; prints Markdown.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from benchmarks import measures
from benchmarks.ctr import CtrError, Runtime
from benchmarks.host import read_facts
from benchmarks.measures import Found, Settings
from benchmarks.picture import draw
from benchmarks.report import Figures, render_markdown
from benchmarks.runtimes import RUNC, SAMPAN, make_sampan, make_template

DEFAULT_IMAGE: Final = "localhost/sampan/busybox:1"
Chosen = TypeVar("Chosen")
"""What a measure may be told."""


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    settings = Settings(options.image, options.stdout_mib, options.execs, options.idle)
    if not measures.has_image(settings.image):
        print(f"benchmarks: containerd has no image {settings.image}", file=sys.stderr)
        return 1
    with TemporaryDirectory() as directory:
        runtimes = prepare_runtimes(Path(directory), options.tuned)
        figures = Figures(
            measures.now_text(),
            read_facts(),
            {"rounds": options.rounds, **asdict(settings)},
            tuple(runtime.name for runtime in runtimes),
        )
        measure_all(figures, runtimes, measures.warm_up, settings)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for measure in measures.MEASURES:
                measure_all(figures, runtimes, measure, settings)
    Path(options.json).parent.mkdir(parents=True, exist_ok=True)
    document = figures.to_json()
    Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
    Path(options.json).with_suffix(".svg").write_text(draw(document))
    print(render_markdown(figures), end="")
    return 1 if figures.failures else 0


def parse_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", default=DEFAULT_IMAGE)
    parser.add_argument("--stdout-mib", type=int, default=256)
    parser.add_argument("--execs", type=int, default=3, help="execs a round")
    parser.add_argument("--idle", type=int, default=1, help="containers that idle at a time")
    parser.add_argument("--tuned", metavar="DIR", help="a guest image, measured as well")
    parser.add_argument("--json", default="build/bench.json", metavar="FILE")
    return parser.parse_args(arguments)


def prepare_runtimes(directory: Path, tuned: str | None) -> tuple[Runtime, ...]:
    """Templates are made here; `tuned`: a guest image with the tuned kernel."""
    make_template()
    others: tuple[Runtime, ...] = ()
    if tuned:
        warm = make_sampan("tuned", directory, image_dir=tuned)
        make_template(warm)
        others = (warm, make_sampan("tuned-cold", directory, image_dir=tuned, templates="never"))
    return (
        Runtime("sampan", SAMPAN),
        make_sampan("sampan-cold", directory, templates="never"),
        *others,
        Runtime("crun", RUNC, ("--runc-binary", "crun")),
        Runtime("runc", RUNC),
    )


def measure_all(
    figures: Figures,
    runtimes: tuple[Runtime, ...],
    measure: Callable[[Runtime, Chosen], Iterator[Found]],
    settings: Chosen,
) -> None:
    """What fails is reported at the end; the rest is still measured."""
    for runtime in runtimes:
        try:
            for found in measure(runtime, settings):
                figures.add(runtime.name, found)
        except (CtrError, ValueError, OSError, TimeoutExpired) as error:
            figures.failures.append(f"{runtime.name}: {error}")
            print(f"benchmarks: {runtime.name}: {error}", file=sys.stderr, flush=True)
