"""Work of the host's root on a share never leaves it, whatever a guest, or its vmm,
changes there.

The attacker here is a process with all rights of root that has what a vmm in its jail
has of the shares: descriptors of their roots.
"""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from native.ffi import lib
from shim.errors import HostResource, InvalidArgument
from shim.host.mounts import HostMount
from shim.machine.directory import SandboxDirectory, SandboxKey
from shim.machine.files import ContainerFiles
from shim.machine.shares import ShareTree
from shim.oci.mounts import Volume

pytestmark = pytest.mark.usefixtures("_shared_mounts")
PATH_EVENTS = frozenset(
    "open os.chmod os.chown os.link os.listdir os.mkdir os.remove os.rename os.rmdir os.scandir"
    " os.symlink os.truncate os.utime shutil.rmtree".split()
)


@pytest.fixture
def sandbox(tmp_path: Path) -> SandboxDirectory:
    made = SandboxDirectory(str(tmp_path / "sandbox"))
    made.create(SandboxKey("c", "n", "s"))
    return made


@pytest.fixture
def shares(sandbox: SandboxDirectory, tmp_path: Path) -> Iterator[ShareTree]:
    """Shares, and a process that has their tree as its root, as a vmm does."""
    tree = ShareTree.make(sandbox)
    (tmp_path / "image").mkdir()
    vmm = start_vmm(tree, tmp_path / "image", sandbox)
    tree.adopt(vmm)
    yield tree
    os.kill(vmm, signal.SIGKILL)
    os.waitpid(vmm, 0)
    tree.close()
    sandbox.remove()
    assert not os.path.exists(sandbox.path)


def start_vmm(tree: ShareTree, image: Path, sandbox: SandboxDirectory) -> int:
    entered, told = os.pipe()
    child = os.fork()
    if child == 0:
        result = lib.jail_enter(tree.shared, str(image).encode(), sandbox.tree.encode())
        os.write(told, str(result).encode())
        signal.pause()
        os._exit(0)
    os.close(told)
    assert os.read(entered, 16) == b"0"
    os.close(entered)
    return child


def open_shared(shares: ShareTree, path: str) -> int:
    return os.open(path, os.O_RDONLY, dir_fd=shares.shared)


def read_shared(shares: ShareTree, path: str) -> str:
    with open(open_shared(shares, path)) as file:
        return file.read()


def list_shared(shares: ShareTree, path: str) -> list[str]:
    directory = open_shared(shares, path)
    try:
        return sorted(os.listdir(directory))
    finally:
        os.close(directory)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Files of the host: empty ones, directories, and a file with contents."""
    made = tmp_path / "victim"
    (made / "directory").mkdir(parents=True)
    (made / "empty").touch()
    (made / "full").write_text("precious")
    return made


def read_names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def bind_root(source: Path) -> HostMount:
    return HostMount("bind", str(source), options=("rbind", "rw"))


def volume(source: Path, number: int = 0, **more: Any) -> Volume:
    described = {"read_only": False, "recursive": True, "field": f"mounts[{number}].source"}
    return Volume(number=number, source=str(source), **{**described, **more})


CHANGES: dict[str, Callable[[int], object]] = {
    "create": lambda fd: os.open("evil", os.O_CREAT | os.O_WRONLY, dir_fd=fd),
    "tmpfile": lambda fd: os.open(".", os.O_TMPFILE | os.O_RDWR, dir_fd=fd),
    "mkdir": lambda fd: os.mkdir("evil", dir_fd=fd),
    "mknod": lambda fd: os.mknod("evil", 0o600, dir_fd=fd),
    "symlink": lambda fd: os.symlink("/root/victim", "evil", dir_fd=fd),
    "rename": lambda fd: os.rename("c1", "evil", src_dir_fd=fd, dst_dir_fd=fd),
    "rmdir": lambda fd: os.rmdir("c1", dir_fd=fd),
    "chmod": lambda fd: os.chmod(f"/proc/self/fd/{fd}", 0o777),
    "chown": lambda fd: os.chown(f"/proc/self/fd/{fd}", 1, 1),
    "utime": lambda fd: os.utime(f"/proc/self/fd/{fd}", (1, 1)),
    "setxattr": lambda fd: os.setxattr(f"/proc/self/fd/{fd}", "trusted.x", b"1"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("share", ["rootfs", "volumes"])
def test_the_root_of_a_share_is_read_only_for_whoever_serves_it(
    shares: ShareTree, share: str, change: str
) -> None:
    shares.add_directory(f"{share}/c1")
    root = open_shared(shares, share)
    try:
        with pytest.raises(OSError) as refused:
            CHANGES[change](root)
    finally:
        os.close(root)
    assert refused.value.errno == errno.EROFS


def test_containers_come_and_go_below_it(shares: ShareTree, tmp_path: Path, victim: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "file").write_text("a file")
    files = ContainerFiles(shares, "c1")
    alone = volume(victim, 2, exclusive=True)
    files.mount(
        [bind_root(tmp_path / "root")],
        [volume(victim), volume(tmp_path / "file", 1, read_only=True), alone],
    )
    made = os.open("rootfs/c1/made", os.O_CREAT | os.O_WRONLY, dir_fd=shares.shared)
    os.write(made, b"by the container")
    os.close(made)
    assert (tmp_path / "root/made").read_text() == "by the container"
    assert read_shared(shares, "volumes/c1/0/full") == "precious"
    assert read_shared(shares, "rootfs/c1@2/full") == "precious"
    with pytest.raises(OSError, match="Read-only"):
        os.open("volumes/c1/1", os.O_WRONLY, dir_fd=shares.shared)
    files.unmount()
    files.unmount()
    assert list_shared(shares, ".") == ["image", "proc", "rootfs", "volumes"]
    assert list_shared(shares, "rootfs") == list_shared(shares, "volumes") == []
    assert read_names(victim) == ["directory", "empty", "full"]


def test_an_overlay_with_a_target_inside_it_follows_the_images_links_inside_it(
    shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    """What is mounted on `target` is mounted in the container's root, whatever its links say."""
    for name in ("lower/etc", "upper", "work", "inner"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "inner/inside").touch()
    (tmp_path / "lower/etc/link").symlink_to(f"/etc/../../..{victim}")
    (tmp_path / "lower" / str(victim)[1:]).mkdir(parents=True)
    files = ContainerFiles(shares, "c1")
    layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    root = HostMount("overlay", "overlay", options=tuple(layers.split(",")))
    inner = HostMount("bind", str(tmp_path / "inner"), "/etc/link", ("rbind",))
    files.mount([root, inner], [])
    assert list_shared(shares, f"rootfs/c1{victim}") == ["inside"]
    assert read_names(victim) == ["directory", "empty", "full"]
    files.unmount()


def test_a_container_that_cannot_be_mounted_leaves_nothing(
    sandbox: SandboxDirectory, shares: ShareTree, tmp_path: Path
) -> None:
    files = ContainerFiles(shares, "c1")
    with pytest.raises(InvalidArgument, match="mounts\\[1\\].source: /no/such"):
        files.mount([bind_root(tmp_path)], [volume(tmp_path), volume(Path("/no/such"), 1)])
    with pytest.raises(HostResource, match="rootfs\\[0\\]: cannot mount"):
        files.mount([HostMount("ext4", "/no/such")], [])
    assert list_shared(shares, "rootfs") == list_shared(shares, "volumes") == []
    assert os.listdir(sandbox.scratch) == []


def test_a_mount_of_the_host_below_a_volume_arrives_in_it(
    shares: ShareTree, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "later").mkdir(parents=True)
    subprocess.run(["mount", "--bind", "--make-shared", source, source], check=True)
    try:
        files = ContainerFiles(shares, "c1")
        (tmp_path / "root").mkdir()
        files.mount([bind_root(tmp_path / "root")], [volume(source)])
        subprocess.run(["mount", "-t", "tmpfs", "none", source / "later"], check=True)
        (source / "later/note").touch()
        assert list_shared(shares, "volumes/c1/0/later") == ["note"]
        files.unmount()
    finally:
        subprocess.run(["umount", "-R", source], check=True)


def test_a_large_file_a_link_and_renames_in_a_loop_in_the_root_stop_no_other_container(
    shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    """What one container's processes do with its root must not affect others."""
    root = tmp_path / "root"
    root.mkdir()
    first = ContainerFiles(shares, "c1")
    first.mount([bind_root(root)], [])
    place = open_shared(shares, "rootfs/c1")
    over = threading.Event()

    def attack() -> None:
        os.mkdir("a", dir_fd=place)
        while not over.is_set():
            os.rename("a", "b", src_dir_fd=place, dst_dir_fd=place)
            os.symlink(victim, "a", dir_fd=place)
            os.unlink("a", dir_fd=place)
            os.rename("b", "a", src_dir_fd=place, dst_dir_fd=place)

    attacker = threading.Thread(target=attack)
    attacker.start()
    (root / "large").write_bytes(bytes(8 << 20))
    os.link(root / "large", root / "another")
    try:
        for number in range(50):
            other = ContainerFiles(shares, f"d{number}")
            other.mount([bind_root(victim)], [volume(victim)])
            other.unmount()
    finally:
        over.set()
        attacker.join()
        os.close(place)
    first.unmount()
    assert read_names(victim) == ["directory", "empty", "full"]


def test_root_works_by_path_nowhere_below_what_a_guest_may_change(
    sandbox: SandboxDirectory, shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    """Every path that Python's audit hooks report is relative to a descriptor, or is our own."""
    seen: list[str] = []
    watching = True

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in PATH_EVENTS:
            seen.extend(word for word in arguments if isinstance(word, str))

    sys.addaudithook(audit)
    files = ContainerFiles(shares, "c1")
    files.mount([bind_root(tmp_path)], [volume(victim), volume(victim, 1, exclusive=True)])
    files.unmount()
    shares.close()
    sandbox.remove()
    watching = False
    ours = {name for name in seen if not name.startswith(sandbox.path)}
    ours -= {"c1", "0", "c1@1", "scratch", "tree", "sandbox.json", "r", "rb", "w"}
    assert all(name.startswith("/proc/self/") for name in ours), ours
    below = [name for name in seen if name.startswith((f"{sandbox.tree}/", f"{sandbox.scratch}/"))]
    assert below == []


def test_no_path_leads_out_of_what_is_shared(
    shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    """Not even for a process that makes its own system calls."""
    files = ContainerFiles(shares, "c1")
    files.mount([bind_root(victim)], [])
    for start in ("rootfs/c1", "rootfs", "proc", "image"):
        inside = open_shared(shares, start)
        top = os.open("../" * 20, os.O_RDONLY, dir_fd=inside)
        assert sorted(os.listdir(top)) == ["image", "proc", "rootfs", "volumes"]
        os.close(inside)
        os.close(top)
    files.unmount()


@pytest.mark.parametrize("kind", ["bind", "overlay"])
def test_a_device_that_is_made_there_is_never_opened(
    shares: ShareTree, tmp_path: Path, kind: str
) -> None:
    """A file server keeps the capability to make nodes: a guest may have them made."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    layers = [f"{name}dir={tmp_path}/{name}" for name in ("lower", "upper", "work")]
    overlay = HostMount("overlay", "overlay", options=tuple(layers))
    files = ContainerFiles(shares, "c1")
    files.mount([overlay if kind == "overlay" else bind_root(tmp_path / "upper")], [])
    root = open_shared(shares, "rootfs/c1")
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=root)
    with pytest.raises(PermissionError):
        os.open("null", os.O_RDWR, dir_fd=root)
    os.close(root)
    files.unmount()


def test_what_is_in_use_is_unmounted_all_the_same(
    shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    files = ContainerFiles(shares, "c1")
    files.mount([bind_root(victim)], [])
    held = open_shared(shares, "rootfs/c1")
    files.unmount()
    assert list_shared(shares, "rootfs") == []
    assert sorted(os.listdir(held)) == ["directory", "empty", "full"]
    os.close(held)


def test_after_the_end_of_its_vmm_nothing_is_left_to_unmount(
    shares: ShareTree, victim: Path
) -> None:
    files = ContainerFiles(shares, "c1")
    files.mount([bind_root(victim)], [])
    shares.close()
    files.unmount()
    assert read_names(victim) == ["directory", "empty", "full"]


def test_a_vmm_with_another_root_is_not_believed(sandbox: SandboxDirectory) -> None:
    tree = ShareTree.make(sandbox)
    with pytest.raises(HostResource, match="has not made the shares its root"):
        tree.adopt(os.getpid())
    tree.close()
