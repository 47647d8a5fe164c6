"""The container images that tests run, made here because no registry is reachable.

Pure but for running mmdebstrap and busybox.  Each image is one layer.
"""

import io
import json
import stat
import subprocess
import tarfile
from pathlib import Path

from tests.testhost.debian import bootstrap_tar
from tests.testhost.mirror import Source
from tests.testhost.oci import pack_image

BUSYBOX_IMAGE = "localhost/sampan/busybox:1"
DEBIAN_IMAGE = "localhost/sampan/debian:1"
DEBIAN_PACKAGES = """
python3 libpython3.13-testsuite gcc libc6-dev make procps attr acl fio stress-ng iperf3 redis-server
git python3-pip python3-pip-whl
""".split()
DIRECTORIES = """
bin dev etc home home/app proc root run sbin sys tmp usr usr/bin usr/sbin var
""".split()
FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "app:x:1000:1000:app:/home/app:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "etc/group": "root:x:0:\ndaemon:x:1:\nstaff:x:50:app\napp:x:1000:\nnogroup:x:65534:\n",
}


def image_inputs() -> str:
    """What the images depend on, for a cache key."""
    own = Path(__file__).read_text() + Path(__file__).with_name("oci.py").read_text()
    return json.dumps([DEBIAN_PACKAGES, own])


def build_images(directory: Path, busybox: Path, source: Source) -> list[Path]:
    """Archives ready to be imported; `busybox` is a static one."""
    layer = directory / "layer.tar"
    archives = [directory / "busybox.oci", directory / "debian.oci"]
    pack_busybox(busybox, layer)
    pack_image(layer, BUSYBOX_IMAGE, archives[0])
    bootstrap_tar(layer, DEBIAN_PACKAGES, source)
    pack_image(layer, DEBIAN_IMAGE, archives[1])
    layer.unlink()
    return archives


def pack_busybox(busybox: Path, layer: Path) -> None:
    """A root of busybox with every applet linked to it."""
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True)
    with tarfile.open(layer, "w") as tar:
        for name in DIRECTORIES:
            tar.addfile(entry(name, tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755))
        for name, text in FILES.items():
            add_regular(tar, name, text.encode(), 0o644)
        add_regular(tar, "bin/busybox", busybox.read_bytes(), 0o755)
        for name in sorted(set(listed.stdout.split()) - {"bin/busybox", "linuxrc"}):
            link = entry(name, tarfile.SYMTYPE, 0o777)
            link.linkname = "/bin/busybox"
            tar.addfile(link)


def add_regular(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = entry(name, tarfile.REGTYPE, mode)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = stat.S_IMODE(mode)
    if name == "home/app":
        info.uid = info.gid = 1000
    return info
