"""containerd of another Debian suite, to be put before the one that the base has.

Owns the cache entries `containerd-*`: the package's programs alone, which run on
the base's libc.  An entry is valid for one day, since suites change.
"""

import subprocess
import tempfile
import time
from pathlib import Path

from tests.testhost.cache import cached, hash_inputs
from tests.testhost.mirror import find_source, private_apt
from tests.testhost.quiet import run_quietly

SUITES = {"1.6": "bookworm", "1.7": "trixie", "2.1": "sid"}
"""The versions served, and the suites that have them."""
PLACE = "/opt/containerd"
KEEP = 3


def provide_containerd(version: str) -> Path:
    """A directory with containerd, ctr and runc's shim, of `version`."""
    suite = SUITES[version]
    key = hash_inputs(suite, time.strftime("%Y-%m-%d"))
    return cached("containerd", key, lambda path: fetch(suite, path), keep=KEEP) / "usr/bin"


def fetch(suite: str, directory: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sampan-apt-") as scratch:
        source = find_source(suite, Path(scratch))
        options = private_apt(Path(scratch), [source])
        subprocess.run(
            ["apt-get", "-qq", *options, "download", "containerd"], cwd=scratch, check=True
        )
        (package,) = Path(scratch).glob("containerd_*.deb")
        run_quietly(["dpkg-deb", "--extract", str(package), str(directory)])
