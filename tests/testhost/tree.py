"""Builds the tree under test for the host's Python, natively, on the outer machine.

Owns the cache entries `tree-*`: an ext4 image that the host mounts on /opt/sampan,
with `venv` (the locked packages and, unless bare, sampan itself installed) and
`tree` (the working tree as git lists it, uncommitted files included, the C layer
built in place).
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.testhost.base import Base
from tests.testhost.cache import cached, hash_inputs
from tests.testhost.chroot import Chroot
from tests.testhost.disk import make_ext4
from tests.testhost.log import say

REPOSITORY = Path(__file__).resolve().parents[2]
DISK_MIB = 4096
KEEP = 6
BUILD_NATIVE = """
set -eu
cd /opt/sampan/tree
[ ! -f native/build.py ] || python -m native.build >/tmp/native.log 2>&1 || {
	tail -n 20 /tmp/native.log | sed 's/^/testhost: | /'
	$on_failure
}
"""
# A bare host is for one layer's developer: another layer may be broken meanwhile.
GO_ON = "echo 'testhost: the C layer does not build; going on without it'"
# Installed from a copy: setuptools leaves its build directories in its source.
INSTALL = """
cp -a /opt/sampan/tree /tmp/source
pip install --quiet --no-index --no-deps --no-build-isolation /tmp/source
cd /
installed="$(python -c 'import native; print(*native.__path__)')"
if [ -f /opt/sampan/tree/native/build.py ] && ! ls "$installed"/_native*.so >/dev/null 2>&1; then
	echo 'testhost: the installed package lacks native/_native' >&2
	exit 1
fi
"""


@dataclass(frozen=True)
class Tree:
    """A build that is ready to be mounted."""

    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / "tree.ext4"


def provide_tree(base: Base, *, bare: bool) -> Tree:
    script = BUILD_NATIVE.replace("$on_failure", GO_ON if bare else "exit 1")
    script += "" if bare else INSTALL
    files = list_files(REPOSITORY)
    parts: list[str | Path] = [base.key, script]
    for name in files:
        parts += [f"{name} {(REPOSITORY / name).stat().st_mode:o}", REPOSITORY / name]
    key = hash_inputs(*parts)
    return Tree(cached("tree", key, lambda path: build_tree(path, base, files, script), keep=KEEP))


def list_files(repository: Path) -> list[str]:
    """Tracked and untracked, not what is ignored; files deleted since are left out."""
    # The owner of a checked-out tree is often not root, who runs this.
    command = ["git", "-c", "safe.directory=*", "-C", str(repository), "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    names = sorted(set(filter(None, listed.split("\0"))))
    return [name for name in names if (repository / name).is_file()]


def build_tree(directory: Path, base: Base, files: list[str], script: str) -> None:
    say("building the tree")
    staging = directory / "sampan"
    shutil.copytree(base.root / "opt/sampan/venv", staging / "venv", symlinks=True)
    for name in files:
        target = staging / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, target, follow_symlinks=False)
    Chroot(base.root, binds={"/opt/sampan": staging}).run(["sh", "-c", script])
    make_ext4(directory / "tree.ext4", staging, DISK_MIB)
    shutil.rmtree(staging)
