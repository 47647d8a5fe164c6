"""A served directory behaves as the file system below it does.

Every test also runs on the directory itself, to show that Linux does what it
expects; then through the server, for a guest's own files and for shared ones, on a
plain file system and on an overlay.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.fuse_share import USER, Share, build_server, mounted, run_as

RENAME_NOREPLACE = 1  # linux/fs.h
RENAME_EXCHANGE = 2
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
FALLOC_FL_KEEP_SIZE = 1  # linux/falloc.h
FALLOC_FL_PUNCH_HOLE = 2
MEMBER = 4000
"""A group."""
FUSE_READ, FUSE_FLUSH = 15, 25  # linux/fuse.h
TELLING_FILE_SYSTEMS = ("ext2/ext3", "xfs", "btrfs", "f2fs")
"""As stat(1) names them: on these a file's ctime shows whether its contents have changed."""
STALE_S = 0.05
"""Longer than a client caches a shared file's attributes."""

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_server(tmp_path_factory.mktemp("server") / "fuse_mount")


@pytest.fixture(params=["plain", "overlay"])
def base(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["direct", "exclusive", "shared"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def share(server: Path, tmp_path: Path, policy: str, base: str) -> Iterator[Share]:
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(0o755)  # for other users
    with Share(server, tmp_path, policy, base) as share:
        yield share


@pytest.fixture
def root(share: Share) -> Path:
    return share.root


@pytest.fixture
def shared(server: Path, tmp_path: Path) -> Iterator[Share]:
    with Share(server, tmp_path, "shared") as share:
        yield share


def file_system_of(path: Path) -> str:
    command = ["stat", "--file-system", "--format=%T", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def rename2(old: Path, new: Path, flags: int) -> None:
    result = libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# --- who owns what, and who may ----------------------------------------------------


def test_what_a_user_makes_is_the_users(root: Path) -> None:
    made = run_as(USER, "echo x >file; mkdir dir; ln -s file link; mkfifo fifo", root)
    assert made.returncode == 0, made.stderr
    for name in ("file", "dir", "link", "fifo"):
        status = (root / name).lstat()
        assert (status.st_uid, status.st_gid) == (USER, USER), name


def test_the_users_umask_masks(root: Path) -> None:
    run_as(USER, "echo >file; mkdir dir", root, umask=0o037)
    assert mode_of(root / "file") == 0o640
    assert mode_of(root / "dir") == 0o740


def test_a_directory_may_be_written_by_a_supplementary_group(root: Path) -> None:
    (root / "dir").mkdir()
    os.chown(root / "dir", 0, MEMBER)
    (root / "dir").chmod(0o770)
    assert run_as(USER, "echo >dir/file", root).returncode != 0
    assert run_as(USER, "echo >dir/file", root, groups=[MEMBER]).returncode == 0
    assert (root / "dir/file").stat().st_gid == USER


def test_a_setgid_directory_gives_its_group_on(root: Path) -> None:
    (root / "dir").mkdir()
    os.chown(root / "dir", 0, MEMBER)
    (root / "dir").chmod(0o2777)
    run_as(USER, "echo >dir/file; mkdir dir/dir", root)
    assert (root / "dir/file").stat().st_gid == MEMBER
    assert (root / "dir/dir").stat().st_gid == MEMBER
    assert mode_of(root / "dir/dir") == 0o2755


def test_a_sticky_directory_keeps_others_from_removing(root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir").chmod(0o1777)
    (root / "dir/file").touch()
    assert run_as(USER, "rm -f dir/file", root).returncode != 0
    assert run_as(USER, "echo >dir/own && rm dir/own", root).returncode == 0


def test_a_default_acl_takes_the_umasks_place(root: Path) -> None:
    (root / "dir").mkdir()
    (root / "dir").chmod(0o777)
    entry = b"\x02\x00\x00\x00"
    for tag, permissions in ((0x01, 7), (0x04, 7), (0x20, 5)):  # owner, group, others
        entry += tag.to_bytes(2, "little") + permissions.to_bytes(2, "little") + b"\xff" * 4
    os.setxattr(root / "dir", "system.posix_acl_default", entry)
    run_as(USER, "mkdir dir/dir", root, umask=0o077)
    assert mode_of(root / "dir/dir") == 0o775
    assert os.getxattr(root / "dir/dir", "system.posix_acl_default") == entry


@pytest.mark.parametrize("command", ["echo x >>file", "truncate -s 1 file", "echo x >file"])
def test_set_id_bits_go_when_another_user_writes(root: Path, command: str) -> None:
    (root / "file").write_text("contents")
    (root / "file").chmod(0o6777)
    assert run_as(USER, command, root).returncode == 0
    assert mode_of(root / "file") == 0o777


def test_set_id_bits_stay_when_root_writes_and_go_when_it_gives_away(root: Path) -> None:
    (root / "file").write_text("contents")
    (root / "file").chmod(0o6755)
    with (root / "file").open("a") as file:
        file.write("more")
    assert mode_of(root / "file") == 0o6755
    os.chown(root / "file", USER, USER)
    assert mode_of(root / "file") == 0o755


# --- files ------------------------------------------------------------------------------


def test_a_deleted_file_lives_while_it_is_open(root: Path) -> None:
    with (root / "file").open("w+") as file:
        file.write("before ")
        file.flush()
        (root / "file").unlink()
        file.write("after")
        file.seek(0)
        assert file.read() == "before after"
        assert os.fstat(file.fileno()).st_nlink == 0
    assert os.listdir(root) == []


def test_appends_of_several_writers_interleave_whole(root: Path) -> None:
    descriptors = [os.open(root / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT) for _ in range(3)]
    for round_number in range(200):
        for index, descriptor in enumerate(descriptors):
            os.write(descriptor, f"{index}:{round_number}\n".encode())
    for descriptor in descriptors:
        os.close(descriptor)
    lines = (root / "log").read_text().splitlines()
    assert lines == [f"{i}:{n}" for n in range(200) for i in range(3)]


def test_holes_are_kept_punched_and_found(share: Share, policy: str) -> None:
    """Except with a write-back cache: there all is data, which POSIX allows."""
    finds_holes = policy != "exclusive"
    with (share.root / "sparse").open("wb+", buffering=0) as file:
        file.truncate(8 << 20)
        os.pwrite(file.fileno(), b"d" * 65536, 4 << 20)
        os.fsync(file.fileno())
        assert os.fstat(file.fileno()).st_blocks * 512 < 1 << 20
        found = os.lseek(file.fileno(), 0, os.SEEK_DATA)
        assert found == (4 << 20 if finds_holes else 0)
        flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        offset, length = ctypes.c_long(4 << 20), ctypes.c_long(65536)
        assert libc.fallocate(file.fileno(), flags, offset, length) == 0
        assert os.pread(file.fileno(), 4, 4 << 20) == b"\0\0\0\0"
        if not finds_holes:
            assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 8 << 20
            return
        with pytest.raises(OSError, match="No such device") as raised:
            os.lseek(file.fileno(), 0, os.SEEK_DATA)
        assert raised.value.errno == errno.ENXIO


def test_what_was_just_written_is_no_hole(root: Path) -> None:
    """Even before it is written back: grep, tar and cp take holes for zeros."""
    with (root / "file").open("wb+", buffering=0) as file:
        file.write(b"hello")
        assert [os.lseek(file.fileno(), n, os.SEEK_DATA) for n in range(5)] == [0, 1, 2, 3, 4]
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 5
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with pytest.raises(OSError, match="No such device"):
                os.lseek(file.fileno(), 5, whence)


def test_mappings_and_descriptors_see_each_other(root: Path) -> None:
    with (root / "file").open("wb+", buffering=0) as file:
        file.truncate(3 * mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), 0) as mapping:
            mapping[5000:5005] = b"hello"
            assert os.pread(file.fileno(), 5, 5000) == b"hello"
            os.pwrite(file.fileno(), b"world", 9000)
            assert mapping[9000:9005] == b"world"
    assert (root / "file").read_bytes()[5000:5005] == b"hello"


def test_an_unnamed_file_can_be_given_a_name(root: Path) -> None:
    descriptor = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(descriptor, b"unnamed")
    path = f"/proc/self/fd/{descriptor}".encode()
    named = os.fsencode(root / "named")
    assert libc.linkat(AT_FDCWD, path, AT_FDCWD, named, AT_SYMLINK_FOLLOW) == 0
    os.close(descriptor)
    assert (root / "named").read_text() == "unnamed"


def test_direct_io_reads_what_was_written(root: Path) -> None:
    descriptor = os.open(root / "file", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    with mmap.mmap(-1, 1 << 20) as buffer:
        buffer[:] = os.urandom(1 << 20)
        assert os.writev(descriptor, [buffer]) == 1 << 20
        assert (root / "file").read_bytes() == buffer[:]
    os.close(descriptor)


def test_copy_file_range_copies(root: Path) -> None:
    data = os.urandom(300_000)
    (root / "from").write_bytes(data)
    with (root / "from").open("rb") as source, (root / "to").open("wb") as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), 200_000, 1000, 50) == 200_000
    assert (root / "to").read_bytes() == b"\0" * 50 + data[1000:201_000]


def test_locks_exclude(root: Path) -> None:
    with (root / "file").open("w") as one, (root / "file").open("w") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_times_are_kept_to_the_nanosecond(root: Path) -> None:
    (root / "file").write_text("x")
    os.utime(root / "file", ns=(1_111_111_111_222_333_444, 1_555_555_555_666_777_888))
    status = (root / "file").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (
        1_111_111_111_222_333_444,
        1_555_555_555_666_777_888,
    )


# --- names --------------------------------------------------------------------------------


def test_names_of_255_bytes_work_and_longer_ones_do_not(root: Path) -> None:
    (root / ("n" * 255)).touch()
    assert os.listdir(root) == ["n" * 255]
    with pytest.raises(OSError, match="File name too long"):
        (root / ("n" * 256)).touch()


def test_rename_replaces_exchanges_and_refuses(root: Path) -> None:
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    with pytest.raises(FileExistsError):
        rename2(root / "a", root / "b", RENAME_NOREPLACE)
    rename2(root / "a", root / "b", RENAME_EXCHANGE)
    assert ((root / "a").read_text(), (root / "b").read_text()) == ("b", "a")
    (root / "a").rename(root / "b")
    assert os.listdir(root) == ["b"]
    assert (root / "b").read_text() == "b"


def test_hard_links_share_everything(root: Path) -> None:
    (root / "a").write_text("a")
    os.symlink("a", root / "s")
    os.link(root / "a", root / "b")
    os.link(root / "s", root / "t", follow_symlinks=False)
    (root / "b").write_text("changed")
    assert (root / "a").read_text() == "changed"
    assert (root / "a").stat().st_nlink == 2
    assert (root / "a").stat().st_ino == (root / "b").stat().st_ino
    assert os.readlink(root / "t") == "a"


def test_a_directory_can_be_emptied_while_it_is_listed(root: Path) -> None:
    for number in range(2000):
        (root / f"{number}").touch()
    with os.scandir(root) as entries:
        for entry in entries:
            os.unlink(entry)
    assert os.listdir(root) == []
    (root / "new").touch()
    assert os.listdir(root) == ["new"]


def test_extended_attributes_are_the_files(root: Path, policy: str) -> None:
    path = root / "file"
    path.touch()
    privileged = ("trusted.two", "security.three")
    os.setxattr(path, "user.one", b"user.one" * 100)
    for name in privileged:
        if policy == "shared":  # as for a container of the host
            with pytest.raises(OSError, match="Operation not permitted"):
                os.setxattr(path, name, b"x")
        else:
            os.setxattr(path, name, name.encode() * 100)
    capability = b"\1\0\0\2\0\4\0\0" + b"\0" * 12
    os.setxattr(path, "security.capability", capability)
    names = {name for name in os.listxattr(path) if not name.startswith("security.selinux")}
    expected = {"user.one", "security.capability"}
    assert names == (expected if policy == "shared" else expected | {*privileged})
    assert os.getxattr(path, "user.one") == b"user.one" * 100
    assert os.getxattr(path, "security.capability") == capability
    os.removexattr(path, "user.one")
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(path, "user.one")
    path.write_text("x")
    assert "security.capability" not in os.listxattr(path)


def test_a_tree_of_10000_small_files_comes_and_goes(root: Path) -> None:
    for directory in range(10):
        (root / f"{directory}").mkdir()
        for number in range(1000):
            with open(root / f"{directory}" / f"{number}", "w") as file:
                file.write(f"{number}")
    found = subprocess.check_output(["find", str(root), "-type", "f", "-size", "-2"])
    assert len(found.splitlines()) == 10_000
    assert (root / "7/777").read_text() == "777"
    subprocess.run(["rm", "-rf", *(str(root / f"{n}") for n in range(10))], check=True)
    assert os.listdir(root) == []


# --- what only the server decides ------------------------------------------------------------


def test_what_the_host_changes_is_seen_after_two_ticks(shared: Share) -> None:
    (shared.source / "file").write_text("old")
    assert (shared.root / "file").read_text() == "old"
    assert not (shared.root / "new").exists()
    (shared.source / "file").write_text("new contents")
    (shared.source / "new").write_text("x")
    time.sleep(STALE_S)
    assert (shared.root / "file").stat().st_size == 12
    assert (shared.root / "file").read_text() == "new contents"
    assert sorted(os.listdir(shared.root)) == ["file", "new"]
    (shared.source / "file").chmod(0o600)
    (shared.source / "new").unlink()
    time.sleep(STALE_S)
    assert mode_of(shared.root / "file") == 0o600
    assert not (shared.root / "new").exists()


def test_what_is_written_is_on_the_host_at_close(shared: Share) -> None:
    (shared.root / "file").write_text("from the client")
    assert (shared.source / "file").read_text() == "from the client"
    with (shared.root / "file").open("a") as client, (shared.source / "file").open("a") as host:
        client.write("1")
        client.flush()
        host.write("2")
        host.flush()
        client.write("3")
    assert (shared.source / "file").read_text() == "from the client123"


def test_what_stays_the_same_is_read_once(server: Path, tmp_path: Path) -> None:
    with Share(server, tmp_path, "shared", options=("-k", "10")) as share:
        (share.source / "file").write_text("contents")
        time.sleep(STALE_S)
        for _ in range(5):
            assert (share.root / "file").read_text() == "contents"
            time.sleep(STALE_S)
        (share.source / "file").write_text("CONTENTS")
        time.sleep(STALE_S)
        for _ in range(5):
            assert (share.root / "file").read_text() == "CONTENTS"
            time.sleep(STALE_S)
    read_by = 2 if file_system_of(tmp_path) in TELLING_FILE_SYSTEMS else 10
    assert share.requests[FUSE_READ] <= read_by, share.requests


@pytest.mark.parametrize("age", [0, STALE_S])
def test_what_the_host_changes_through_a_mapping_is_seen_at_the_next_open(
    server: Path, tmp_path: Path, age: float
) -> None:
    """Its ctime does not change while the page is waiting to be written back."""
    with Share(server, tmp_path, "shared", options=("-k", "60000")) as share:
        (share.source / "file").write_bytes(bytes(mmap.PAGESIZE))
        with (share.source / "file").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            for value in range(1, 4):
                memory[0] = value
                time.sleep(age)
                assert (share.root / "file").read_bytes()[0] == value


@pytest.mark.parametrize("remote", [False, True])
def test_closing_a_file_asks_a_file_system_that_may_have_more_to_say(
    server: Path, tmp_path: Path, remote: bool
) -> None:
    """A network file system or, as here, one in user space, mounted in the share."""
    for name in ("inner", "outer"):
        (tmp_path / name).mkdir()
    inner = Share(server, tmp_path / "inner", "shared" if remote else "direct")
    outer = Share(server, tmp_path / "outer", "shared")
    with inner, outer as share:
        (share.source / "sub").mkdir()
        with mounted(["--bind", str(inner.root)], share.source / "sub"):
            (share.root / "sub/file").write_text("contents")
    assert (FUSE_FLUSH in share.requests) == remote


@pytest.mark.parametrize("policy", ["exclusive", "shared"])
def test_mounts_of_the_host_come_and_go(server: Path, tmp_path: Path, policy: str) -> None:
    """Right below the root; the kernel makes submounts of them for virtio-fs only."""
    with Share(server, tmp_path, policy) as share:
        for number in range(2):
            (share.source / "sub").mkdir()
            assert os.listdir(share.root / "sub") == []
            with mounted(["-t", "tmpfs", "tmpfs"], share.source / "sub"):
                (share.source / "sub/file").write_text(f"{number}")
                assert (share.root / "sub/file").read_text() == f"{number}"
            (share.source / "sub").rmdir()
            assert not (share.root / "sub").exists()


def test_an_image_is_read_only(server: Path, tmp_path: Path) -> None:
    with Share(server, tmp_path, "image") as share:
        (share.source / "file").write_text("contents")
        assert (share.root / "file").read_text() == "contents"
        assert os.listdir(share.root) == ["file"]
        with pytest.raises(OSError, match="Read-only file system"):
            (share.root / "file").write_text("x")
        with pytest.raises(OSError, match="Read-only file system"):
            (share.root / "new").mkdir()
        with pytest.raises(OSError, match="Read-only file system"):
            (share.root / "file").unlink()


def test_too_many_files_are_an_error_until_some_are_forgotten(server: Path, tmp_path: Path) -> None:
    limited = tmp_path / "limited"
    limited.write_text(f'#!/bin/sh\nulimit -n 200\nexec "{server}" "$@"\n')
    limited.chmod(0o755)
    with Share(limited, tmp_path, "shared") as share:
        for number in range(300):
            (share.source / f"{number}").write_text("x")
        with pytest.raises(OSError, match="Too many open files in system"):
            sum((share.root / f"{number}").stat().st_size for number in range(300))
        Path("/proc/sys/vm/drop_caches").write_text("2")
        assert (share.root / "299").read_text() == "x"
        assert len(os.listdir(share.root)) == 300
