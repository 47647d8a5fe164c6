"""`python3 -m tests.suites --binaries DIR [NAME…]`: every suite, sampan beside runc.

A NAME is a suite's, or what a suite's begins with before a dash: `cpython`.
Runs where containerd has both runtimes.  Prints a Markdown report of how many
tests ended how and of every difference; keeps each run's whole output in --log.
Exit status 1 when there is a difference that tests/suites/known.txt does not
name, with its reason, as `suite where test: reason`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.ctr import DEBIAN, RUNC, SAMPAN, Ctr
from tests.suites.report import print_section, read_known
from tests.suites.suite import PJDFSTEST_CONFIG, SUITES, Outcomes, Suite

KNOWN = Path(__file__).with_name("known.txt")
WHERE = {"rootfs": "/root/work", "bind mount": "/data/work"}
TIMEOUT_S = 5400
MEMORY_MIB = "1536"


def name_runtime(runtime: str) -> str:
    """io.containerd.NAME.v2"""
    return runtime.split(".")[-2]


def run_suite(suite: Suite, runtime: str, work: str, suites_dir: Path, log: Path) -> Outcomes:
    """One container, made for this run: what a suite leaves behind meets no other."""
    client = Ctr(runtime, prefix=f"suite-{name_runtime(runtime)}")
    name = client.new_id()
    with tempfile.TemporaryDirectory() as data:
        script = f"export WORK={work} HOME=/root; mkdir -p $WORK; {suite.script}"
        flags = [
            "--rm", "--privileged", "--annotation", f"dev.sampan.memory_mib={MEMORY_MIB}",
            "--mount", f"type=bind,src={suites_dir},dst=/suites,options=rbind:ro",
            "--mount", f"type=bind,src={data},dst=/data,options=rbind:rw",
        ]  # fmt: skip
        arguments = ["ctr", "run", "--runtime", runtime, *flags, DEBIAN, name, "sh", "-c", script]
        try:
            with log.open("wb") as file:
                done = subprocess.run(
                    arguments, stdout=file, stderr=subprocess.STDOUT, timeout=TIMEOUT_S,
                    stdin=subprocess.DEVNULL, check=False,
                )  # fmt: skip
                status = done.returncode
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            client.close()
    return suite.parse(log.read_text(errors="replace"), status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binaries", type=Path, required=True, help="pjdfstest and fsx")
    parser.add_argument("--log", type=Path, default=Path("/tmp/suites"))
    parser.add_argument("--where", choices=WHERE, help="there alone")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    options.log.mkdir(parents=True, exist_ok=True)
    known = read_known(KNOWN)
    subprocess.run(["sampan", "template", "create", "--memory-mib", MEMORY_MIB], check=True)
    unknown = 0
    with tempfile.TemporaryDirectory() as directory:
        suites_dir = Path(directory)
        suites_dir.chmod(0o755)
        for binary in ("pjdfstest", "fsx"):
            shutil.copy2(options.binaries / binary, suites_dir / binary)
        (suites_dir / "pjdfstest.toml").write_text(PJDFSTEST_CONFIG)
        for suite in SUITES:
            if options.names and not is_named(suite.name, options.names):
                continue
            for where, work in WHERE.items():
                if options.where not in (None, where):
                    continue
                unknown += compare(suite, where, work, suites_dir, options.log, known)
    return 1 if unknown else 0


def is_named(suite: str, names: Sequence[str]) -> bool:
    return any(suite == name or suite.startswith(f"{name}-") for name in names)


def compare(
    suite: Suite, where: str, work: str, suites_dir: Path, log: Path, known: dict[str, str]
) -> int:
    """Prints one section; answers how many differences have no known reason."""

    def run(runtime: str) -> tuple[Outcomes, float]:
        started = time.monotonic()
        name = f"{suite.name}-{where.replace(' ', '-')}-{name_runtime(runtime)}.log"
        outcomes = run_suite(suite, runtime, work, suites_dir, log / name)
        return outcomes, time.monotonic() - started

    # Both at once: an hour is saved, and it is outcomes that are compared, not times.
    runtimes = (SAMPAN, RUNC)
    with ThreadPoolExecutor(len(runtimes)) as pool:
        runs = dict(zip(runtimes, pool.map(run, runtimes), strict=True))
    return print_section(suite.name, where, runs, known)


if __name__ == "__main__":
    sys.exit(main())
