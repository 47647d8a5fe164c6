"""Runs a program natively inside a directory tree that holds a Debian system.

Owns no files.  Every mount lives in a mount namespace of the program's own and
goes with it, so an interrupted run leaves none behind.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.testhost.quiet import run_quietly

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ENTER = """
set -eu
root=$1; writable=$2; shift 2
mount --bind "$root" "$root"
[ "$writable" = yes ] || mount -o remount,bind,ro "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
while [ "$1" != -- ]; do
	mount --bind "$1" "$root/$2"
	shift 2
done
shift
exec chroot "$root" "$@"
"""
PATH = "/opt/sampan/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Chroot:
    """A root directory and what of the outer machine is seen in it.

    `binds` maps paths inside, which must exist, to paths outside.
    """

    root: Path
    binds: Mapping[str, Path] = field(default_factory=dict)
    writable: bool = False

    def run(self, command: Sequence[str], *, cwd: str = "/") -> None:
        """CalledProcessError when it fails, after its output was shown."""
        binds = {**network_binds(self.root), **self.binds}
        pairs = [str(word) for inside, outside in binds.items() for word in (outside, inside)]
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "chroot"]
        words = [str(self.root), "yes" if self.writable else "no", *pairs, "--"]
        run_quietly(
            [*enter, *words, "env", "-C", cwd, *command],
            env=carried_environment() | {"PATH": PATH, "HOME": "/tmp", "LC_ALL": "C.UTF-8"},
        )


def network_binds(root: Path) -> dict[str, Path]:
    """Names, certificate authorities and pip's configuration as the outer machine has them."""
    seen = {
        str(path): path for path in (Path("/etc/resolv.conf"), Path("/etc/hosts"), CERTIFICATES)
    }
    seen["/etc/pip.conf"] = next(filter(Path.exists, pip_configurations()), Path())
    return {
        inside: outside.resolve()
        for inside, outside in seen.items()
        if outside.is_file() and (root / inside.lstrip("/")).exists()
    }


def pip_configurations() -> list[Path]:
    """The files in which pip looks for an index, the one that wins first."""
    named = os.environ.get("PIP_CONFIG_FILE")
    home = Path(os.environ.get("HOME", "/root"))
    own = [home / ".config/pip/pip.conf", home / ".pip/pip.conf", Path("/etc/pip.conf")]
    return [Path(named), *own] if named else own


def carried_environment() -> dict[str, str]:
    """Proxies and package indexes; not PIP_FIND_LINKS, whose paths are not inside."""
    names = {"http_proxy", "https_proxy", "no_proxy", "ssl_cert_file"}
    return {
        name: value
        for name, value in os.environ.items()
        if name.lower() in names
        or (name.startswith("PIP_") and name not in {"PIP_FIND_LINKS", "PIP_CONFIG_FILE"})
    }
