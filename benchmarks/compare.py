"""The run: sampan from a template, with a prewarmed machine, cold, crun (in runc's shim)
and runc in turn, in one run on one host.

Writes JSON and, beside it, a picture; prints Markdown.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import measures
from benchmarks.ctr import Runtime
from benchmarks.measures import Settings
from benchmarks.picture import draw
from benchmarks.report import render_markdown
from benchmarks.rounds import begin_figures, measure_all, measure_rounds, save
from benchmarks.runtimes import RUNC, SAMPAN, make_ready, make_sampan, make_template

DEFAULT_IMAGE: Final = "localhost/sampan/busybox:1"


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    settings = Settings(options.image, options.stdout_mib, options.execs, options.idle)
    if not measures.has_image(settings.image):
        print(f"benchmarks: containerd has no image {settings.image}", file=sys.stderr)
        return 1
    with TemporaryDirectory() as directory:
        runtimes = tuple(
            runtime
            for runtime in prepare_runtimes(Path(directory), options)
            if options.runtime is None or runtime.name in options.runtime
        )
        figures = begin_figures(runtimes, options.rounds, settings)
        measure_all(figures, runtimes, measures.warm_up, settings)
        chosen = [measures.MEASURES[name] for name in options.only or measures.MEASURES]
        measure_rounds(figures, runtimes, chosen, settings, options.rounds)
    save(figures, options.json)
    Path(options.json).with_suffix(".svg").write_text(draw(figures.to_json()))
    print(render_markdown(figures), end="")
    return 1 if figures.failures else 0


def parse_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--image", default=DEFAULT_IMAGE)
    parser.add_argument("--stdout-mib", type=int, default=256)
    parser.add_argument("--execs", type=int, default=3, help="execs a round")
    parser.add_argument("--idle", type=int, default=1, help="containers that idle at a time")
    parser.add_argument("--only", action="append", choices=measures.MEASURES, help="these alone")
    parser.add_argument("--runtime", action="append", metavar="NAME", help="these alone")
    parser.add_argument("--no-jail", action="store_true", help="without the jail, measured as well")
    parser.add_argument("--tuned", metavar="DIR", help="a guest image, measured as well")
    parser.add_argument("--json", default="build/bench.json", metavar="FILE")
    return parser.parse_args(arguments)


def prepare_runtimes(directory: Path, options: argparse.Namespace) -> tuple[Runtime, ...]:
    """Templates are made here; `tuned`: a guest image with the tuned kernel."""
    make_template()
    others: list[Runtime] = []
    if options.tuned:
        warm = make_sampan("tuned", directory, image_dir=options.tuned)
        make_template(warm)
        cold = make_sampan("tuned-cold", directory, image_dir=options.tuned, templates="never")
        others += warm, cold
    if options.no_jail:
        others.append(make_sampan("no-jail", directory, jail="off"))
    return (
        Runtime("sampan", SAMPAN),
        make_ready(directory),
        make_sampan("sampan-cold", directory, templates="never"),
        *others,
        Runtime("crun", RUNC, ("--runc-binary", "crun")),
        Runtime("runc", RUNC),
    )
