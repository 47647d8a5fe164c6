"""Programs of clients that call containerd or a runtime, put into the host beside its own.

Owns the cache entries `clients-*`: what their packages have in /usr, of the suite that the
base is made of, whose libraries they use.  An entry is valid for one day, since suites
change.  What a package's scripts would do is not done: no service, no group.
"""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.testhost.cache import cached, hash_inputs
from tests.testhost.debian import SUITE
from tests.testhost.mirror import find_source, private_apt
from tests.testhost.quiet import run_quietly

CLIENTS = {"docker": ("docker.io", "docker-cli", "tini")}
"""The packages that the base lacks; it has iptables, containerd and runc."""
PLACE = "/usr"
KEEP = 3


def provide_clients(name: str) -> Path:
    """A directory as of /usr."""
    packages = CLIENTS[name]
    key = hash_inputs(SUITE, *packages, time.strftime("%Y-%m-%d"))
    return cached("clients", key, lambda path: fetch(packages, path), keep=KEEP) / "usr"


def fetch(packages: tuple[str, ...], directory: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sampan-apt-") as scratch:
        source = find_source(SUITE, Path(scratch))
        options = private_apt(Path(scratch), [source])
        subprocess.run(["apt-get", "-qq", *options, "download", *packages], cwd=scratch, check=True)
        for package in Path(scratch).glob("*.deb"):
            run_quietly(["dpkg-deb", "--extract", str(package), str(directory)])
    shutil.rmtree(directory / "usr/share")
