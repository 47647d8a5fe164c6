"""Packs the small initramfs that mounts the host's disk and hands over to it.

Pure but for reading the files that go in.  It also carries the inside half of
this tool, so that a change to it needs no new base.  Format: cpio "newc".
"""

import lzma
import stat
from pathlib import Path

PACKAGE = Path(__file__).parent
INSIDE_FILES = (
    "frames.py",
    "guest/__init__.py",
    "guest/runner.py",
    "guest/process.py",
    "guest/services.py",
)
MODULES = ("kernel/drivers/block/virtio_blk.ko",)
INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mkdir -p /dev /root
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod $module; done
busybox mount -t ext4 /dev/vda /root || exec busybox poweroff -f
busybox mount -t tmpfs -o mode=755 run /root/run
busybox cp -a /testhost /root/run/testhost
busybox cp /bin/busybox /root/run/testhost/busybox
busybox umount /dev
exec busybox switch_root /root /run/testhost/init
"""


def pack_initramfs(busybox: Path, modules: Path) -> bytes:
    members: list[tuple[str, int, bytes]] = []
    for directory in ("bin", "modules", "testhost", "testhost/tests", "testhost/tests/testhost"):
        members.append((directory, stat.S_IFDIR | 0o755, b""))
    members.append(("testhost/tests/testhost/guest", stat.S_IFDIR | 0o755, b""))
    members.append(("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
    members.append(("init", stat.S_IFREG | 0o755, INIT.encode()))
    for number, name in enumerate(MODULES):
        module = (stat.S_IFREG | 0o644, read_module(modules / name))
        members.append((f"modules/{number}.ko", *module))
    init = (PACKAGE / "guest" / "init.sh").read_bytes()
    members.append(("testhost/init", stat.S_IFREG | 0o755, init))
    for name in INSIDE_FILES:
        content = (PACKAGE / name).read_bytes()
        members.append((f"testhost/tests/testhost/{name}", stat.S_IFREG | 0o644, content))
    return pack_cpio(members)


def read_module(path: Path) -> bytes:
    """The module as the kernel takes it; Debian ships them compressed since 6.12."""
    if path.exists():
        return path.read_bytes()
    return lzma.decompress(path.with_name(path.name + ".xz").read_bytes())


def pack_cpio(members: list[tuple[str, int, bytes]]) -> bytes:
    """Names, modes and contents in the order they are to be made."""
    archive = bytearray()
    for number, (name, mode, content) in enumerate([*members, ("TRAILER!!!", 0, b"")]):
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = [number + 1, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        archive += b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
        archive += b"\0" * (-len(archive) % 4)
        archive += content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)
