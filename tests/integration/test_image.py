"""The guest image as `image build` makes it: its programs run, and nothing unneeded is in it.

Takes packages from the network when the cache is cold.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from image.cli import DEFAULT_CACHE
from proto import contract

TREE = Path(__file__).resolve().parents[2]


def build(output: Path, *extra: str, tree: Path = TREE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "image", "build", "--output", str(output)]
    command += ["--cache", str(DEFAULT_CACHE), *extra]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("built") / "image"
    done = build(output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture
def edited_tree(tmp_path: Path) -> Path:
    """A copy of what the image is made from, to be edited."""
    tree = tmp_path / "tree"
    for name in ("image", "agent", "proto"):
        shutil.copytree(TREE / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def in_root(image: Path, *command: str) -> str:
    done = subprocess.run(
        ["chroot", image / "root", *command],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_the_kernel_is_an_elf_file_with_its_modules(image: Path) -> None:
    assert (image / "vmlinux").read_bytes()[:4] == b"\x7fELF"
    listing = image / "root" / contract.GUEST_MODULES_FILE.lstrip("/")
    names = listing.read_text().splitlines()
    assert [Path(name).stem for name in names] == [
        "vsock",
        "vmw_vsock_virtio_transport_common",
        "vmw_vsock_virtio_transport",
        "overlay",
        "failover",
        "net_failover",
        "virtio_net",
        "virtio_balloon",
        "ptp_kvm",
    ]
    for name in names:
        assert (image / "root" / name.lstrip("/")).read_bytes()[:4] == b"\x7fELF"


def test_the_guests_python_has_what_the_agent_imports(image: Path) -> None:
    code = (
        "import sys; sys.path.append('/usr/lib/sampan'); import proto.gen.agent.v1.agent_pb2_grpc"
    )
    assert in_root(image, "/usr/bin/python3", "-IS", "-c", code + "; print(7)") == "7\n"


def test_python_code_is_there_as_bytecode_alone(image: Path) -> None:
    for directory in ("usr/lib/python3.13", "usr/lib/sampan"):
        assert list((image / "root" / directory).rglob("*.py")) == []
        assert list((image / "root" / directory).rglob("__pycache__")) == []


def test_init_is_executable_and_belongs_to_root(image: Path) -> None:
    init = image / "root" / contract.GUEST_INIT.lstrip("/")
    assert init.stat().st_mode & 0o7777 == 0o755
    assert init.read_text().startswith("#!/usr/bin/python3.13 -IS\n")
    assert (image / "root/usr/bin/python3.13").exists()


def test_there_are_no_devices_and_no_foreign_owners(image: Path) -> None:
    for path in (image / "root").rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        assert path.is_symlink() or path.is_dir() or path.is_file(), path


def test_the_manifest_names_every_part_with_its_hash(image: Path) -> None:
    manifest = json.loads((image / "manifest.json").read_text())
    parts = {part["name"]: part for part in manifest["components"]}
    assert {"crun", "libc6", "python3.13-minimal", "grpcio", "protobuf"} <= parts.keys()
    assert any(name.startswith("linux-image-6.12") for name in parts)
    assert all(len(part["sha256"]) == 64 and part["version"] for part in parts.values())
    assert manifest["kernel_release"].endswith("cloud-amd64")


def test_nothing_is_built_when_nothing_has_changed(image: Path) -> None:
    before = (image / "manifest.json").stat().st_ino
    done = build(image)
    assert "up to date" in done.stdout
    assert (image / "manifest.json").stat().st_ino == before


def test_an_edited_agent_goes_in_without_fetching(image: Path, edited_tree: Path) -> None:
    with (edited_tree / "agent" / "__init__.py").open("a") as source:
        source.write("\nEDITED = 7\n")
    done = build(image, tree=edited_tree)
    assert done.returncode == 0, done.stderr
    assert "fetching" not in done.stderr
    code = "import sys; sys.path.append('/usr/lib/sampan'); import agent; print(agent.EDITED)"
    assert in_root(image, "/usr/bin/python3", "-IS", "-c", code) == "7\n"


def test_a_kernel_of_ones_own_replaces_debians(image: Path, tmp_path: Path) -> None:
    """Without --modules all is built into it: no module of another kernel is left."""
    own = tmp_path / "vmlinux"
    own.write_bytes(b"\x7fELF of my own")
    output = tmp_path / "image"
    done = build(output, "--kernel", str(own))
    assert done.returncode == 0, done.stderr
    assert (output / "vmlinux").read_bytes() == own.read_bytes()
    assert (output / "root" / contract.GUEST_MODULES_FILE.lstrip("/")).read_text() == ""


def test_a_kernel_file_that_is_none_leaves_the_image_as_it_was(image: Path, tmp_path: Path) -> None:
    junk = tmp_path / "vmlinuz"
    junk.write_bytes(b"junk")
    before = (image / "manifest.json").read_bytes()
    done = build(image, "--kernel", str(junk))
    assert done.returncode == 1
    assert f"{junk}: neither an ELF file nor a bzImage" in done.stderr
    assert (image / "manifest.json").read_bytes() == before
