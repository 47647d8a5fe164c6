"""Programs of clients that call containerd or a runtime, put into the host beside its own.

Owns the cache entries `clients-*`: what their packages have in PLACES, of the suite that the
base is made of, whose libraries they use.  An entry is valid for one day, since suites
change.  What a package's scripts would do is not done: no service, no group.
"""

import subprocess
import tempfile
import time
from pathlib import Path

from tests.testhost.cache import cached, hash_inputs
from tests.testhost.debian import SUITE
from tests.testhost.mirror import find_source, private_apt
from tests.testhost.quiet import run_quietly

CLIENTS = {
    "docker": ("docker.io", "docker-cli", "tini"),
    "podman": (
        *("podman", "conmon", "netavark", "aardvark-dns", "catatonit", "passt", "nftables"),
        *("golang-github-containers-common", "golang-github-containers-image"),
        *("libassuan9", "libgcrypt20", "libgpg-error0", "libgpgme11t64", "libnftables1"),
        "libsubid5",
    ),
}
"""The packages that the base lacks; it has iptables, containerd and runc."""
PLACES = (
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/libexec",
    "/usr/share/containers",
    "/etc/containers",
)
KEEP = 3


def provide_clients(name: str) -> list[tuple[Path, str]]:
    """Directories, and the places in the host into which they are merged."""
    packages = CLIENTS[name]
    key = hash_inputs(SUITE, *packages, *PLACES, time.strftime("%Y-%m-%d"))
    entry = cached("clients", key, lambda path: fetch(packages, path), keep=KEEP)
    return [(entry / place[1:], place) for place in PLACES if (entry / place[1:]).exists()]


def fetch(packages: tuple[str, ...], directory: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sampan-apt-") as scratch:
        source = find_source(SUITE, Path(scratch))
        options = private_apt(Path(scratch), [source])
        subprocess.run(["apt-get", "-qq", *options, "download", *packages], cwd=scratch, check=True)
        for package in Path(scratch).glob("*.deb"):
            run_quietly(["dpkg-deb", "--extract", str(package), str(directory)])
