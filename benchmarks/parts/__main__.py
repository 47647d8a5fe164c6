"""`python3 -m benchmarks.parts [--rounds N]`: medians and quartiles, as a Markdown table.

Needs root, /dev/kvm of any kind, containerd, runc and crun.  Runs in mount namespaces of its
own, with a containerd of its own, and leaves nothing.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.parts.agent import measure_agent
from benchmarks.parts.files import measure_files
from benchmarks.parts.host import measure_host

INSIDE: Final = "SAMPAN_PARTS_INSIDE"
PVM: Final = Path("/sys/module/kvm_pvm")
UNIFIED: Final = Path("/sys/fs/cgroup/unified")
Samples = Mapping[str, Sequence[float]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.parts", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args(arguments)
    if INSIDE not in os.environ:
        return run_inside(arguments)
    with TemporaryDirectory(prefix="sampan-parts-") as directory:
        place = Path(directory)
        samples = {
            **measure_host(place, options.rounds),
            **measure_agent(place, options.rounds),
            **measure_files(place, options.rounds),
        }
    print(render(samples))
    return 0


def run_inside(arguments: list[str]) -> int:
    """In a mount namespace with an empty /run, and without the sign by which sampan refuses
    a paravirtual KVM: the stub that is run instead of a kernel needs no more of it.  crun
    refuses a host that has both versions of cgroups, so the second one goes."""
    hide = "mount -t tmpfs none /run"
    if PVM.exists():
        hide += f" && mount -t tmpfs none {PVM.parent}"
    if UNIFIED.exists():
        hide += f" && umount {UNIFIED}"
    command = ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh", sys.executable]
    environment = {**os.environ, INSIDE: "1"}
    return subprocess.run(
        [*command, "-m", "benchmarks.parts", *arguments], env=environment, check=False
    ).returncode


def render(samples: Samples) -> str:
    lines = ["| hardware speed | median | quartiles | rounds |", "|---|---|---|---|"]
    for name, values in samples.items():
        low, _, high = quantiles(values, n=4)
        middle = median(values)
        lines.append(f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} | {len(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
