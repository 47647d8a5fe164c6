"""A file that is not as it was sealed is not opened, whatever was done to it."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shim.errors import HostResource
from shim.host.seal import SEAL, SealedDirectory, seal_directory

CONTENT = "what was saved"
Change = Callable[[Path], object]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A directory with two files, and a third one elsewhere."""
    directory = tmp_path / "sealed"
    directory.mkdir(0o700)
    for path in (directory / "memory", directory / "state", tmp_path / "kernel"):
        path.write_text(CONTENT)
    seal_directory(str(directory), ("memory", "state", "absent"), [str(tmp_path / "kernel")])
    return directory


def read(directory: Path, name: str = "memory") -> str:
    with SealedDirectory(str(directory)) as opened, open(opened.open(name)) as file:
        return file.read()


def keep_times(path: Path, change: Change) -> None:
    """Does the change, and sets mtime to what it was."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_file(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.rename(path)


def link_to_copy(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def test_files_that_are_as_they_were_are_opened(sealed: Path) -> None:
    assert read(sealed) == CONTENT
    with SealedDirectory(str(sealed)) as opened:
        assert opened.names >= {"memory", "state"}
        assert "absent" not in opened.names


def test_a_directory_can_be_moved_and_its_files_read(sealed: Path) -> None:
    """As a template is, when it is complete and when it is used."""
    moved = sealed.rename(sealed.with_name("moved"))
    assert [read(moved) for _ in range(2)] == [CONTENT] * 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.write_text(CONTENT.upper()), "changed since it was sealed: mtime is"),
        (
            lambda path: keep_times(path, lambda path: path.write_text(CONTENT.upper())),
            "changed since it was sealed: ctime is",
        ),
        (lambda path: os.truncate(path, 3), f"size is 3, was {len(CONTENT)}"),
        (replace_file, "changed since it was sealed: inode is"),
        (lambda path: path.chmod(0o400), "mode is '0o100400', was '0o100644'"),
        (lambda path: path.chmod(0o602), "others may write to it: mode 0o100602"),
        (lambda path: path.chmod(0o660), "others may write to it: mode 0o100660"),
        (link_to_copy, "a symbolic link"),
        (make_fifo, "no regular file"),
        (make_directory, "no regular file"),
        (lambda path: path.unlink(), "No such file"),
    ],
    ids=[
        "content",
        "content, mtime set back",
        "cut off",
        "replaced by a copy",
        "mode",
        "others may write",
        "the group may write",
        "symbolic link",
        "FIFO",
        "directory",
        "gone",
    ],
)
def test_a_changed_file_is_refused_with_its_name_and_the_difference(
    sealed: Path, change: Change, told: str
) -> None:
    (sealed / "memory").chmod(0o644)
    seal_directory(str(sealed), ("memory", "state"))
    change(sealed / "memory")
    with pytest.raises(HostResource, match=re.escape(f"{sealed}/memory: ") + f".*{told}"):
        read(sealed)
    assert read(sealed, "state") == CONTENT


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.chmod(0o770), "sealed: others may write to it: mode 0o40770"),
        (lambda path: path.parent.chmod(0o702), "others may write to it: mode 0o40702"),
        (link_to_copy, "sealed: Not a directory"),
        (lambda path: (path / SEAL).unlink(), f"sealed/{SEAL}: No such file"),
        (lambda path: (path / SEAL).chmod(0o622), f"sealed/{SEAL}: others may write"),
        (lambda path: (path / SEAL).write_text("{"), f"sealed/{SEAL}: Expecting"),
        (lambda path: (path / SEAL).write_text("[]"), f"sealed/{SEAL}: no object"),
        (lambda path: (path / SEAL).write_text("{}"), "sealed/memory: not in the seal"),
        (lambda path: (path / SEAL).write_text('{"memory": {}}'), "sealed/memory: changed"),
    ],
)
def test_a_directory_that_others_can_change_or_without_a_seal_is_refused(
    sealed: Path, change: Change, told: str
) -> None:
    change(sealed)
    with pytest.raises(HostResource, match=told):
        read(sealed)


def test_a_file_that_is_not_in_the_seal_is_refused(sealed: Path) -> None:
    (sealed / "other").write_text("x")
    with pytest.raises(HostResource, match="other: not in the seal of"):
        read(sealed, "other")


def test_a_file_elsewhere_is_compared_whoever_may_write_to_it(sealed: Path) -> None:
    kernel = sealed.parent / "kernel"
    kernel.chmod(0o666)
    seal_directory(str(sealed), (), [str(kernel)])
    with SealedDirectory(str(sealed)) as opened:
        os.close(opened.open_outside(str(kernel)))
        keep_times(kernel, lambda path: path.write_text(CONTENT.upper()))
        with pytest.raises(HostResource, match="kernel: changed since it was sealed: ctime"):
            opened.open_outside(str(kernel))


def test_a_new_seal_replaces_the_old_one(sealed: Path) -> None:
    (sealed / "memory").write_text("new")
    seal_directory(str(sealed), ("memory",))
    assert read(sealed) == "new"
    assert sorted(path.name for path in sealed.iterdir()) == ["memory", SEAL, "state"]


def test_another_digest_of_verity_is_a_change(sealed: Path) -> None:
    """As if the file had had one."""
    files = json.loads((sealed / SEAL).read_text())
    files["memory"]["verity"] = "00ff"
    (sealed / SEAL).write_text(json.dumps(files))
    with pytest.raises(HostResource, match="memory: changed .* verity is '', was '00ff'"):
        read(sealed)
