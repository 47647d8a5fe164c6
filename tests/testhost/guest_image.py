"""sampan's guest image as a disk of the test host.

Owns the cache entries `guest-*`, and `work-guest`, where `sampan image build` keeps
what it has fetched.  The image is made on the base's own system, so that nothing
depends on what is installed on the outer machine.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.testhost.base import Base
from tests.testhost.cache import cache_directory, cached, hash_inputs
from tests.testhost.chroot import Chroot
from tests.testhost.disk import make_ext4
from tests.testhost.log import say
from tests.testhost.tree import REPOSITORY, list_files

SOURCES = ("image/", "agent/", "proto/")
DISK_MIB = 2048
KEEP = 2
DEBIAN, TUNED = "debian", "tuned"
KERNELS = (DEBIAN, TUNED)


def provide_guest_image(base: Base, *, bare: bool, kernel: str = DEBIAN) -> Path | None:
    """None when the tree has no recipe; a bare host does without an image that fails to build."""
    files = [name for name in list_files(REPOSITORY) if name.startswith(SOURCES)]
    if "image/build.py" not in files:
        return None
    named = [part for name in files for part in (name, REPOSITORY / name)]
    words = [] if kernel == DEBIAN else ["--kernel", kernel]
    key = hash_inputs(base.key, *words, *named)
    try:
        entry = cached("guest", key, lambda path: build_guest_image(path, base, words), keep=KEEP)
    except subprocess.CalledProcessError:
        if not bare:
            raise
        say("the guest image does not build; going on without it")
        return None
    return entry / "guest.ext4"


def build_guest_image(directory: Path, base: Base, words: Sequence[str]) -> None:
    say("building the guest image" + (" and, if it is a new one, its kernel" if words else ""))
    work = cache_directory() / "work-guest"
    binds = {"/var/lib/sampan": work / "lib", "/var/cache/sampan": work / "cache"}
    for path in binds.values():
        path.mkdir(parents=True, exist_ok=True)
    command = ["/opt/sampan/venv/bin/python", "-B", "-m", "image", "build", *words]
    Chroot(base.root, binds={**binds, "/mnt": REPOSITORY}).run(command, cwd="/mnt")
    make_ext4(directory / "guest.ext4", work / "lib" / "image", DISK_MIB)
