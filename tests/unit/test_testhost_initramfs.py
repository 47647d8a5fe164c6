"""The initramfs is a cpio "newc" archive as Linux documents it under early-userspace."""

import lzma
from pathlib import Path

from tests.testhost.initramfs import pack_cpio, pack_initramfs, read_module


def parse_cpio(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Modes and contents by name."""
    members: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        content = -(-(at + 110 + name_size) // 4) * 4
        if name == "TRAILER!!!":
            return members
        members[name] = (mode, data[content : content + size])
        at = -(-(content + size) // 4) * 4


def test_names_and_contents_of_any_length_are_read_back() -> None:
    members = [("a" * n, 0o100644, b"x" * n) for n in range(1, 9)]
    parsed = parse_cpio(pack_cpio(members))
    assert parsed == {name: (mode, content) for name, mode, content in members}


def test_it_carries_the_inside_half_of_the_tool(tmp_path: Path) -> None:
    module = tmp_path / "kernel/drivers/block/virtio_blk.ko.xz"
    module.parent.mkdir(parents=True)
    module.write_bytes(lzma.compress(b"module"))
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"elf")
    parsed = parse_cpio(pack_initramfs(busybox, tmp_path))
    assert parsed["modules/0.ko"][1] == b"module"
    assert parsed["init"][0] & 0o111
    assert parsed["testhost/init"][0] & 0o111
    assert b"def main" in parsed["testhost/tests/testhost/guest/runner.py"][1]


def test_a_module_that_is_not_compressed_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.ko").write_bytes(b"plain")
    assert read_module(tmp_path / "m.ko") == b"plain"
