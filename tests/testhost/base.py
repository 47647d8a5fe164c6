"""The test host's own system: a Debian root as a directory and as an ext4 image.

Owns the cache entries `base-*`.  The directory is for compiling the tree natively
on the outer machine (under emulation that takes minutes); the image is what QEMU
boots, with snapshot=on, so neither changes after it was built.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.testhost import debian
from tests.testhost.cache import cached, hash_inputs
from tests.testhost.chroot import Chroot
from tests.testhost.debian import SUITE, bootstrap_directory
from tests.testhost.disk import make_ext4
from tests.testhost.images import build_images, image_inputs
from tests.testhost.log import say
from tests.testhost.mirror import Source, find_source
from tests.testhost.requirements import select_requirements

DISK_MIB = 16384
KEEP = 2
PACKAGES = """
linux-image-cloud-amd64 kmod busybox-static
containerd runc crun containernetworking-plugins
python3 python3-venv python3-pip python3-dev gcc libc6-dev libseccomp-dev
iproute2 procps util-linux e2fsprogs attr acl strace
fio stress-ng iperf3 redis-tools libpython3.13-testsuite mmdebstrap
qemu-system-x86 virtiofsd
ca-certificates git make zstd xz-utils
bc bison flex libelf-dev
""".split()
MOUNT_POINTS = ("opt/sampan", "var/lib/sampan/image", "var/cache/sampan")
MAKE_VENV = """
set -eu
python3 -m venv /opt/sampan/venv
pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \\
	--requirement /opt/requirements.txt
"""
# Under emulation, decompressing modules is most of the time that loading them takes.
UNPACK_MODULES = """
set -eu
find /usr/lib/modules -name '*.ko.xz' -exec xz --decompress {} +
depmod "$(ls /usr/lib/modules)"
"""
CONTAINERD_CONFIG = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""
IMPORT_IMAGES = """
set -eu
containerd --log-level warn &
containerd=$!
for _ in $(seq 100); do
	ctr version >/dev/null 2>&1 && break
	sleep 0.1
done
for archive in /mnt/*.oci; do ctr image import "$archive"; done
kill "$containerd"
wait "$containerd"
"""


@dataclass(frozen=True)
class Base:
    """Paths of a base that is built."""

    directory: Path

    @property
    def key(self) -> str:
        return self.directory.name

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def image(self) -> Path:
        return self.directory / "base.ext4"

    @property
    def kernel(self) -> Path:
        return next(self.root.glob("boot/vmlinuz-*"))

    @property
    def modules(self) -> Path:
        return next(self.root.glob("usr/lib/modules/*"))


def provide_base(tree: Path) -> Base:
    requirements = select_requirements(tree)
    recipe = [PACKAGES, MOUNT_POINTS, DISK_MIB, MAKE_VENV, UNPACK_MODULES, IMPORT_IMAGES]
    key = hash_inputs(
        json.dumps([recipe, CONTAINERD_CONFIG]),
        requirements,
        image_inputs(),
        Path(debian.__file__),
    )
    return Base(cached("base", key, lambda path: build_base(path, requirements), keep=KEEP))


def build_base(directory: Path, requirements: str) -> None:
    say("building the base system, once; this takes a few minutes")
    root = directory / "root"
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=directory) as scratch:
        source = find_source(SUITE, Path(scratch))
        bootstrap_directory(root, PACKAGES, source)
        install_requirements(root, requirements)
        Chroot(root, writable=True).run(["sh", "-c", UNPACK_MODULES])
        import_images(root, Path(scratch), source)
    make_ext4(directory / "base.ext4", root, DISK_MIB)
    shutil.rmtree(root / "var/lib/containerd")  # a gigabyte that only the host needs


def install_requirements(root: Path, requirements: str) -> None:
    listing = root / "opt" / "requirements.txt"
    listing.write_text(requirements)
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True)
    (root / "etc/pip.conf").touch()
    Chroot(root, writable=True).run(["sh", "-c", MAKE_VENV])
    listing.unlink()


def import_images(root: Path, scratch: Path, source: Source) -> None:
    """Here and not in the host: unpacking them there takes minutes of emulated time."""
    (root / "etc/containerd").mkdir(exist_ok=True)
    (root / "etc/containerd/config.toml").write_text(CONTAINERD_CONFIG)
    images = scratch / "images"
    images.mkdir()
    build_images(images, root / "usr/bin/busybox", source)
    Chroot(root, binds={"/mnt": images}, writable=True).run(["sh", "-c", IMPORT_IMAGES])
    shutil.rmtree(images)
