"""Publishing an image: what causes a rebuild, and what an interrupted build leaves."""

import zipfile
from pathlib import Path

import pytest

from image import build, exchange, manifest, wheels
from image.build import BuildOptions, publish
from image.errors import FormatError, ImageError
from image.exchange import exchange_directories, scratch_directory
from image.manifest import BaseManifest, Component, Manifest, read_inputs_hash
from image.wheels import Wheel, describe_wheel, unpack_wheels

BASE = BaseManifest("key", "6.12", "00", (Component("crun", "1.21-1", "ff", "debian"),))


def make_image(directory: Path, inputs: str) -> Path:
    (directory / "root").mkdir(parents=True)
    made = Manifest(inputs, 1, "6.12", "debian", "00", "11", ("vsock",), BASE.components)
    (directory / "vmlinux").touch()
    (directory / "manifest.json").write_text(made.to_json())
    return directory


def test_a_base_manifest_survives_being_written() -> None:
    assert BaseManifest.from_json(BASE.to_json()) == BASE


def test_the_inputs_of_an_image_are_read_back(tmp_path: Path) -> None:
    assert read_inputs_hash(make_image(tmp_path / "image", "abc")) == "abc"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}'])
def test_a_manifest_that_cannot_be_read_counts_as_no_image(tmp_path: Path, text: str) -> None:
    image = make_image(tmp_path / "image", "abc")
    (image / "manifest.json").write_text(text)
    assert read_inputs_hash(image) is None


@pytest.mark.parametrize("part", ["root", "vmlinux"])
def test_an_image_without_one_of_its_parts_is_built_again(tmp_path: Path, part: str) -> None:
    image = make_image(tmp_path / "image", "abc")
    (image / part).rename(tmp_path / part)
    assert read_inputs_hash(image) is None


def test_hashed_parts_do_not_run_together() -> None:
    assert manifest.hash_text(["ab", "c"]) != manifest.hash_text(["a", "bc"])


def test_an_edit_and_a_new_name_change_the_hash_of_sources(tmp_path: Path) -> None:
    source = tmp_path / "agent" / "init.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    first = manifest.hash_sources(tmp_path, ["agent"])
    source.write_text("x = 2\n")
    second = manifest.hash_sources(tmp_path, ["agent"])
    source.rename(source.with_name("main.py"))
    assert len({first, second, manifest.hash_sources(tmp_path, ["agent"])}) == 3


def test_a_kernel_of_ones_own_changes_the_inputs_by_its_content(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(b"\x7fELF1")
    plain = build.hash_inputs(BASE, BuildOptions(tmp_path, tmp_path))
    own = BuildOptions(tmp_path, tmp_path, kernel_path=kernel)
    first = build.hash_inputs(BASE, own)
    kernel.write_bytes(b"\x7fELF2")
    assert len({plain, first, build.hash_inputs(BASE, own)}) == 3


def test_publishing_keeps_the_image_before(tmp_path: Path) -> None:
    """Machines that run from the earlier image still find their files."""
    output = make_image(tmp_path / "image", "old")
    publish(make_image(tmp_path / "scratch", "new"), output)
    assert read_inputs_hash(output) == "new"
    assert read_inputs_hash(tmp_path / "image.previous") == "old"
    assert not (tmp_path / "scratch").exists()


def test_a_directory_that_is_no_image_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "home"
    output.mkdir()
    (output / "thesis").write_text("irreplaceable")
    with pytest.raises(ImageError, match="home: exists and is no guest image"):
        publish(make_image(tmp_path / "scratch", "new"), output)
    assert (output / "thesis").read_text() == "irreplaceable"


def test_directories_are_exchanged_where_the_file_system_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "RENAME_EXCHANGE", 1 << 30)  # EINVAL, as such file systems return
    fresh, target = tmp_path / "fresh", tmp_path / "target"
    for directory in (fresh, target):
        directory.mkdir()
        (directory / directory.name).touch()
    exchange_directories(fresh, target)
    assert (target / "fresh").exists()
    assert (fresh / "target").exists()


def test_a_scratch_directory_of_an_interrupted_build_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".image-abc.tmp"
    (left / "root").mkdir(parents=True)
    with scratch_directory(tmp_path, "image-") as scratch:
        assert not left.exists()
        assert scratch.is_dir()
    assert list(tmp_path.iterdir()) == []


def make_wheel(path: Path, *names: str) -> Wheel:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x = 1\n")
    return describe_wheel(path)


def test_a_wheel_is_unpacked_without_its_metadata(tmp_path: Path) -> None:
    path = tmp_path / "grpcio-1.85.1-cp313-cp313-linux_x86_64.whl"
    wheel = make_wheel(path, "grpc/__init__.py", "grpcio-1.85.1.dist-info/METADATA")
    unpack_wheels([wheel], tmp_path / "site")
    assert (wheel.name, wheel.version) == ("grpcio", "1.85.1")
    assert [entry.name for entry in (tmp_path / "site").iterdir()] == ["grpc"]


def test_a_wheel_that_needs_an_installer_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "x-1-py3-none-any.whl", "x-1.data/scripts/x")
    with pytest.raises(FormatError, match=r"x-1\.data needs an installer"):
        unpack_wheels([wheel], tmp_path / "site")


def test_every_locked_wheel_has_hashes() -> None:
    lines = wheels.LOCK_FILE.read_text().replace("\\\n", "").splitlines()
    packages = [line for line in lines if line and line[0].isalpha()]
    assert len(packages) >= 2
    assert all("==" in line and "--hash=sha256:" in line for line in packages)


def test_without_root_the_build_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ImageError, match="needs root"):
        build.build_image(BuildOptions(tmp_path / "o", tmp_path / "c"), lambda line: None)
