"""`python3 -m benchmarks.files`: work on files in a container's root and on a volume.

sampan from a template and runc in turn, in one run on one host; the work is
benchmarks/file_work.py's.  Prints Markdown.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import file_work
from benchmarks.ctr import Runtime, run_exec, running
from benchmarks.measures import Found, Metric
from benchmarks.report import render_markdown
from benchmarks.rounds import begin_figures, measure_rounds, save
from benchmarks.runtimes import RUNC, SAMPAN, make_template

IMAGE: Final = "localhost/sampan/debian:1"
PLACES: Final = {
    "root": ("/root/work", "/usr/lib/x86_64-linux-gnu"),
    "volume": ("/volume/work", "/volume/unread"),
}
"""Where the work is done, and files that the guest has not read yet."""
TITLES: Final = {
    "small_s": f"{file_work.SMALL_FILES} small files created, listed, removed",
    "unpack_s": "an archive unpacked",
    "compile_s": "a program compiled",
    "install_s": "`pip install` of a wheel",
    "clone_s": "`git clone`",
    "database_s": f"{file_work.TRANSACTIONS} transactions of sqlite",
}
METRICS: Final[dict[str, Metric]] = {
    f"{place}_{name}": metric
    for place in PLACES
    for name, metric in {
        **{name: Metric(f"{place}: {title}", "s") for name, title in TITLES.items()},
        "read_mib_s": Metric(f"{place}: a file read", "MiB/s", more_is_better=True),
        "write_mib_s": Metric(f"{place}: a file written", "MiB/s", more_is_better=True),
        "random_write_s": Metric(f"{place}: fio, 4 KiB written", "1/s", more_is_better=True),
        "random_read_s": Metric(f"{place}: fio, 4 KiB read", "1/s", more_is_better=True),
    }.items()
}


@dataclass(frozen=True, slots=True)
class Settings:
    image: str


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.files", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    settings = Settings(IMAGE)
    make_template()
    runtimes = (Runtime("sampan", SAMPAN), Runtime("runc", RUNC))
    figures = begin_figures(runtimes, options.rounds, settings)
    measure_rounds(figures, runtimes, (measure_files,), settings, options.rounds)
    if options.json:
        save(figures, options.json)
    print(render_markdown(figures, METRICS), end="")
    return 1 if figures.failures else 0


def measure_files(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    source = Path(file_work.__file__).read_text()
    with TemporaryDirectory() as volume:
        make_unread(Path(volume, "unread"))
        mount = ("--mount", f"type=bind,src={volume},dst=/volume,options=rbind:rw")
        with running(runtime.with_flags(*mount), settings.image, "sleep", "1000000") as name:
            for place, (work, unread) in PLACES.items():
                printed = run_exec(name, "python3", "-c", source, work, unread)
                found = json.loads(printed)
                yield Found({f"{place}_{key}": value for key, value in found.items()})


def make_unread(directory: Path) -> None:
    """Files that were just written: they are in the host's page cache."""
    directory.mkdir()
    block = os.urandom(file_work.CHUNK_BYTES)
    with (directory / "big").open("wb") as file:
        for _ in range(file_work.BIG_MIB):
            file.write(block)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
