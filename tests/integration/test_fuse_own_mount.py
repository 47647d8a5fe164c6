"""Files in a share's own mount are the host's; those in mounts below it are the
client's."""

import os
from pathlib import Path

import pytest

from tests.integration.fuse_share import Share, build_server, mounted


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_server(tmp_path_factory.mktemp("server") / "fuse_mount")


def write_and_sync(path: Path) -> None:
    """A client that sends no OPEN gets the error only here."""
    with open(path, "r+b", buffering=0) as file:
        file.write(b"x")
        os.fsync(file.fileno())


@pytest.mark.parametrize("policy", ["exclusive", "shared"])
def test_only_what_is_mounted_in_a_share_can_be_changed(
    server: Path, tmp_path: Path, policy: str
) -> None:
    """A bind mount of the same file system: the mount decides, not the file system."""
    (tmp_path / "volume").mkdir()
    with Share(server, tmp_path, policy, own_mount_writable=False) as share:
        (share.source / "dir").mkdir()
        (share.source / "file").write_text("contents")
        (share.source / "sub").mkdir()
        changes = (
            lambda root: os.symlink("/root", root / "link"),
            lambda root: (root / "new").mkdir(),
            lambda root: (root / "new").write_bytes(b"x"),
            lambda root: os.mkfifo(root / "fifo"),
            lambda root: os.link(root / "file", root / "hard"),
            lambda root: os.rename(root / "dir", root / "moved"),
            lambda root: os.close(os.open(root, os.O_TMPFILE | os.O_RDWR)),
            lambda root: (root / "dir").rmdir(),
            lambda root: (root / "file").unlink(),
            lambda root: (root / "file").chmod(0o777),
            lambda root: os.chown(root, 1, 1),
            lambda root: os.utime(root / "file"),
            lambda root: os.truncate(root / "file", 0),
            lambda root: os.setxattr(root / "file", "trusted.x", b"x"),
            lambda root: os.close(os.open(root / "file", os.O_RDONLY | os.O_TRUNC)),
            lambda root: write_and_sync(root / "file"),
        )
        with mounted(["--bind", str(tmp_path / "volume")], share.source / "sub"):
            for change in changes:
                with pytest.raises(OSError, match="Read-only file system"):
                    change(share.root)
            (share.root / "sub/dir").mkdir()
            (share.root / "sub/dir/file").write_text("x")
            (share.root / "sub/dir").rename(share.root / "sub/moved")
        assert sorted(os.listdir(share.source)) == ["dir", "file", "sub"]
        assert (share.source / "file").read_text() == "contents"
        assert (tmp_path / "volume/moved/file").read_text() == "x"
