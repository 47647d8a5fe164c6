"""Files: the snapshot on the host, bind mounts both ways, and what programs expect of them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.usage import parse_sleeps
from tests.e2e.ctr import DEBIAN, Ctr

CHECKS = Path(__file__).with_name("probe_files.py").read_text()


def bind(source: Path, where: str, *options: str) -> tuple[str, str]:
    words = ",".join(["type=bind", f"src={source}", f"dst={where}", "options=" + ":".join(options)])
    return ("--mount", words)


def test_a_file_written_in_the_root_is_in_the_snapshot(ctr: Ctr, tmp_path: Path) -> None:
    name = ctr.start("sh", "-c", "echo kept > /root/note; chmod 640 /root/note; sleep 1000")
    try:
        assert ctr.exec(name, "cat", "/root/note").stdout == "kept\n"
        assert ctr.kill(name).status == 0
        ctr.command("task", "rm", "--force", name)
        made = ctr.command("snapshot", "mounts", str(tmp_path), name)
        subprocess.run(["sh", "-c", made.stdout], check=True)
        try:
            assert (tmp_path / "root/note").read_text() == "kept\n"
            assert (tmp_path / "root/note").stat().st_mode & 0o7777 == 0o640
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)
    finally:
        ctr.remove(name)


def test_a_root_may_have_as_much_unwritten_as_a_local_disk(ctr: Ctr) -> None:
    """FUSE's default is 1 % of that, and writers would wait for the host at each page."""
    done = ctr.run("sh", "-c", "cat /sys/class/bdi/*/max_ratio", flags=("--privileged",))
    assert done.stdout.split().count("100") >= 2, done  # the roots' and the volumes'


LITTLE_BY_LITTLE = """
import os
file = os.open("/root/log", os.O_CREAT | os.O_WRONLY)
for _ in range(2000):
    os.write(file, b"a line")
"""


def count_fs_sleeps(vmm: int) -> int:
    """A worker sleeps before each request that comes alone."""
    return sum(
        parse_sleeps((task / "status").read_text())
        for task in Path(f"/proc/{vmm}/task").iterdir()
        if (task / "comm").read_text() == "fs\n"
    )


def test_writing_little_by_little_does_not_ask_the_host_each_time(ctr: Ctr) -> None:
    """In a FUSE submount Linux asks before each write whether the file has capabilities."""
    name = ctr.start("sleep", "1000", image=DEBIAN)
    ctr.exec(name, "python3", "-c", "pass")  # has read Python
    before = count_fs_sleeps(ctr.task_pid(name))
    assert ctr.exec(name, "python3", "-c", LITTLE_BY_LITTLE).status == 0
    assert count_fs_sleeps(ctr.task_pid(name)) - before < 1000


EXCLUSIVELY = """
import os
file = open("/data/file", "wb", buffering=0)
file.write(b"contents")
print(os.path.getsize("/view/file"))
os.fsync(file.fileno())
print(os.path.getsize("/view/file"))
open("/data/dir/last", "w").write("not synced")
os.chown("/data/dir/last", 7, 8)
"""


def test_an_exclusive_volume_is_written_back_like_a_root(ctr: Ctr, tmp_path: Path) -> None:
    """Seen through the same directory as an ordinary one: at fsync, and at the end."""
    (tmp_path / "dir").mkdir()
    flags = (*bind(tmp_path, "/data", "rbind", "rw"), *bind(tmp_path, "/view", "rbind", "ro"))
    mark = ("--annotation", "dev.sampan.exclusive_volumes=/data")
    done = ctr.run("python3", "-c", EXCLUSIVELY, image=DEBIAN, flags=(*flags, *mark))
    assert (done.status, done.stdout) == (0, "0\n8\n"), done
    assert (tmp_path / "file").read_text() == "contents"
    assert (tmp_path / "dir/last").read_text() == "not synced"
    assert ((tmp_path / "dir/last").stat().st_uid, (tmp_path / "dir/last").stat().st_gid) == (7, 8)


def test_an_exclusive_volume_that_is_none_is_named(ctr: Ctr) -> None:
    done = ctr.run("true", flags=("--annotation", "dev.sampan.exclusive_volumes=/gone"))
    assert done.status != 0
    assert "annotations[dev.sampan.exclusive_volumes]: nothing is mounted at '/gone'" in done.stderr


def test_a_bind_mount_is_shared_both_ways_at_once(ctr: Ctr, tmp_path: Path) -> None:
    """What the host writes while the container runs is read, and the other way; sizes grow."""
    (tmp_path / "in").write_text("from the host\n")
    name = ctr.start("sleep", "1000", flags=bind(tmp_path, "/data", "rbind", "rw"))
    try:
        assert ctr.exec(name, "cat", "/data/in").stdout == "from the host\n"
        assert ctr.shell(name, "echo from the guest > /data/out; rm /data/in").status == 0
        assert (tmp_path / "out").read_text() == "from the guest\n"
        assert not (tmp_path / "in").exists()
        (tmp_path / "in").write_text("again, and longer\n")
        assert ctr.exec(name, "cat", "/data/in").stdout == "again, and longer\n"
        with (tmp_path / "in").open("a") as file:
            file.write("more\n")
        assert ctr.exec(name, "cat", "/data/in").stdout == "again, and longer\nmore\n"
        (tmp_path / "out").unlink()
        assert ctr.exec(name, "cat", "/data/out").status == 1
    finally:
        ctr.remove(name)


def test_what_is_mounted_in_a_volume_is_there_as_a_mount(ctr: Ctr, tmp_path: Path) -> None:
    """With a device number of its own; released when the container ends."""
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "sub")], check=True)
    try:
        (tmp_path / "sub/file").write_text("below\n")
        script = "cat /data/sub/file; echo new > /data/sub/new; sync; stat -c %d /data /data/sub"
        done = ctr.run("sh", "-c", script, flags=bind(tmp_path, "/data", "rbind", "rw"))
        text, *devices = done.stdout.split()
        assert (done.status, text) == (0, "below"), done
        assert len(set(devices)) == 2
        assert (tmp_path / "sub/new").read_text() == "new\n"
    finally:
        subprocess.run(["umount", str(tmp_path / "sub")], check=True)


def test_a_sync_reaches_the_disk_that_a_volume_lies_on(ctr: Ctr, tmp_path: Path) -> None:
    """A disk that is not the share's: its file shows what its file system has written."""
    disk, volume = tmp_path / "disk", tmp_path / "volume"
    disk.write_bytes(bytes(64 << 20))
    volume.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", str(disk), str(volume)], check=True)
    try:
        script = "echo a line that was synced > /data/file; sync"
        assert ctr.run("sh", "-c", script, flags=bind(volume, "/data", "rbind", "rw")).status == 0
        assert b"a line that was synced" in disk.read_bytes()
    finally:
        subprocess.run(["umount", str(volume)], check=True)


def test_a_read_only_bind_mount_is_not_writable(ctr: Ctr, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("fixed\n")
    done = ctr.run(
        "sh",
        "-c",
        "cat /data/file; echo x > /data/file; echo x > /data/new; rm -f /data/file; true",
        flags=bind(tmp_path, "/data", "rbind", "ro"),
    )
    assert done.stdout == "fixed\n", done
    assert done.stderr.lower().count("read-only file system") >= 2, done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    assert (tmp_path / "file").read_text() == "fixed\n"


def test_a_single_file_can_be_bound(ctr: Ctr, tmp_path: Path) -> None:
    source = tmp_path / "resolv.conf"
    source.write_text("nameserver 192.0.2.1\n")
    done = ctr.run(
        "sh", "-c", "cat /etc/resolv.conf; echo more >> /etc/resolv.conf",
        flags=bind(source, "/etc/resolv.conf", "bind", "rw"),
    )  # fmt: skip
    assert (done.status, done.stdout) == (0, "nameserver 192.0.2.1\n"), done
    assert source.read_text() == "nameserver 192.0.2.1\nmore\n"


def test_a_missing_bind_source_is_named(ctr: Ctr, tmp_path: Path) -> None:
    done = ctr.run("true", flags=bind(tmp_path / "absent", "/data", "rbind", "rw"))
    assert done.status != 0
    assert str(tmp_path / "absent") in done.stderr, done


@pytest.fixture(scope="module")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def debian(module_ctr: Ctr, shared_directory: Path) -> Iterator[str]:
    name = module_ctr.start(
        "sleep", "100000", image=DEBIAN, flags=bind(shared_directory, "/data", "rbind", "rw")
    )
    yield name
    module_ctr.remove(name)


@pytest.fixture(scope="module")
def debian_runc(module_runc: Ctr, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    own = tmp_path_factory.mktemp("shared-runc")
    name = module_runc.start(
        "sleep", "100000", image=DEBIAN, flags=bind(own, "/data", "rbind", "rw")
    )
    yield name
    module_runc.remove(name)


@pytest.mark.parametrize("where", ["/root/work", "/data/work"], ids=["rootfs", "bind mount"])
def test_programs_find_the_file_system_they_expect(
    module_ctr: Ctr, module_runc: Ctr, debian: str, debian_runc: str, where: str
) -> None:
    """Rename, links, xattrs, holes, mmap, O_TMPFILE, flock, long names …: as under runc."""
    ours = module_ctr.exec(debian, "python3", "-c", CHECKS, where)
    theirs = module_runc.exec(debian_runc, "python3", "-c", CHECKS, where)
    assert theirs.status == 0, theirs
    assert ours.stdout == theirs.stdout, ours
    assert "FAILED" not in ours.stdout, ours


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/root/many", "/data/many"], ids=["rootfs", "bind mount"])
def test_a_hundred_thousand_small_files(module_ctr: Ctr, debian: str, where: str) -> None:
    script = (
        "import os, sys\n"
        "top = sys.argv[1]\n"
        "for d in range(100):\n"
        "    os.makedirs(f'{top}/{d}')\n"
        "    for f in range(1000):\n"
        "        with open(f'{top}/{d}/{f}', 'w') as file: file.write(str(f))\n"
        "assert sum(len(files) for _, _, files in os.walk(top)) == 100_000\n"
        "assert open(f'{top}/99/999').read() == '999'\n"
        "import shutil; shutil.rmtree(top)\n"
        "assert not os.path.exists(top); print('done')\n"
    )
    done = module_ctr.exec(debian, "python3", "-c", script, where, timeout_s=3400)
    assert (done.status, done.stdout) == (0, "done\n"), done
