"""What only root can do to a sealed file, and what only some file systems have."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.errors import HostResource
from shim.host.seal import SEAL, SealedDirectory, seal_directory
from shim.host.verity import enable_verity, measure_verity
from shim.vmm.snapshot import read_file

pytestmark = pytest.mark.integration
CONTENT = b"what was saved\n" * 1000
NOBODY = 65534


def make_sealed(directory: Path) -> Path:
    directory.mkdir(0o700)
    (directory / "memory").write_bytes(CONTENT)
    seal_directory(str(directory), ("memory",))
    return directory


def read(directory: Path) -> bytes:
    with SealedDirectory(str(directory)) as opened, open(opened.open("memory"), "rb") as file:
        return file.read()


@pytest.mark.parametrize("name", ["", "memory", SEAL])
def test_what_belongs_to_another_user_is_refused(tmp_path: Path, name: str) -> None:
    directory = make_sealed(tmp_path / "sealed")
    assert read(directory) == CONTENT
    os.chown(directory / name, NOBODY, NOBODY)
    path = str(directory / name)
    with pytest.raises(HostResource, match=f"^{path}: its owner is user {NOBODY}, not 0"):
        read(directory)


def test_what_lies_below_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Who could put another template in its place."""
    directory = make_sealed(tmp_path / "sealed")
    os.chown(tmp_path, NOBODY, NOBODY)
    try:
        with pytest.raises(HostResource, match=f"^{tmp_path}: its owner is user {NOBODY}"):
            read(directory)
    finally:
        os.chown(tmp_path, 0, 0)


@pytest.fixture
def verity_root(tmp_path: Path) -> Iterator[Path]:
    """A file system with fs-verity."""
    image, target = tmp_path / "image", tmp_path / "mounted"
    target.mkdir()
    image.write_bytes(b"")
    os.truncate(image, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "verity", "-b", "4096", str(image)], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(target)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no ext4 with fs-verity: {mounted.stderr.decode().strip()}")
    try:
        (target / "try").write_bytes(b"try")
        fd = os.open(target / "try", os.O_RDONLY)
        has_verity = enable_verity(fd)
        os.close(fd)
        if not has_verity:
            pytest.skip("this kernel has no fs-verity (CONFIG_FS_VERITY)")
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_where_the_file_system_has_verity_nobody_can_change_a_file(verity_root: Path) -> None:
    """And one in its place, with the same content, has no digest."""
    directory = make_sealed(verity_root / "sealed")
    assert read(directory) == CONTENT
    with pytest.raises(PermissionError):
        (directory / "memory").open("r+b")
    (directory / "memory").unlink()
    (directory / "memory").write_bytes(CONTENT)
    with pytest.raises(HostResource, match="memory: changed since it was sealed: .* verity is ''"):
        read(directory)


def test_what_the_disk_changes_is_not_read(verity_root: Path, tmp_path: Path) -> None:
    """No time tells of that: the kernel compares each page with the digest."""
    directory = make_sealed(verity_root / "sealed")
    subprocess.run(["umount", str(verity_root)], check=True)
    disk = tmp_path / "image"
    content = disk.read_bytes()
    place = content.index(CONTENT[:4096])
    with disk.open("r+b") as file:
        file.seek(place)
        file.write(b"W")
    subprocess.run(["mount", "-o", "loop", str(disk), str(verity_root)], check=True)
    with SealedDirectory(str(directory)) as opened:
        fd = opened.open("memory")
        assert measure_verity(fd)
        os.close(fd)
        with pytest.raises(HostResource, match="/memory: Input/output error"):
            read_file(opened, "memory")


def test_a_file_without_verity_has_no_digest() -> None:
    with open("/proc/version", "rb") as file:
        assert not enable_verity(file.fileno())
        assert measure_verity(file.fileno()) == ""
