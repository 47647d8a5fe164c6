"""Root on the host keeps to itself what a guest, or the vmm that serves it, may change.

The attacker here is a process with every right of root that holds what a vmm holds of the
shares: descriptors of their roots.
"""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shim.errors import HostResource, InvalidArgument
from shim.host.mounts import HostMount
from shim.machine.files import ContainerFiles
from shim.machine.sandbox import Sandbox, SandboxKey
from shim.machine.shares import ShareTree
from shim.oci.mounts import Volume

pytestmark = pytest.mark.usefixtures("_shared_mounts")
PATH_EVENTS = frozenset(
    "open os.chmod os.chown os.link os.listdir os.mkdir os.remove os.rename os.rmdir os.scandir"
    " os.symlink os.truncate os.utime shutil.rmtree".split()
)


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    made = Sandbox(str(tmp_path / "sandbox"))
    made.create(SandboxKey("c", "n", "s"))
    return made


@pytest.fixture
def shares(sandbox: Sandbox) -> Iterator[ShareTree]:
    tree = ShareTree.make(sandbox)
    yield tree
    tree.close()
    sandbox.remove()
    assert not os.path.exists(sandbox.path)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Of the host's: empty files and directories, and a file with something in it."""
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
    sandbox: Sandbox, shares: ShareTree, share: str, change: str
) -> None:
    shares.add_directory(f"{share}/c1")
    root = os.open(f"{sandbox.tree}/{share}", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError) as refused:
            CHANGES[change](root)
    finally:
        os.close(root)
    assert refused.value.errno == errno.EROFS


def test_containers_come_and_go_below_it(
    sandbox: Sandbox, shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "file").write_text("a file")
    files = ContainerFiles(shares, "c1")
    alone = volume(victim, 2, exclusive=True)
    files.mount(
        [bind_root(tmp_path / "root")],
        [volume(victim), volume(tmp_path / "file", 1, read_only=True), alone],
    )
    tree = Path(sandbox.tree)
    (tree / "rootfs/c1/made").write_text("by the container")
    assert (tmp_path / "root/made").read_text() == "by the container"
    assert (tree / "volumes/c1/0/full").read_text() == "precious"
    assert (tree / "rootfs/c1@2/full").read_text() == "precious"
    with pytest.raises(OSError, match="Read-only"):
        (tree / "volumes/c1/1").write_text("not")
    files.unmount()
    files.unmount()
    assert sorted(str(path.relative_to(tree)) for path in tree.rglob("*")) == ["rootfs", "volumes"]
    assert read_names(victim) == ["directory", "empty", "full"]


def test_an_overlay_with_a_target_inside_it_follows_the_images_links_inside_it(
    sandbox: Sandbox, shares: ShareTree, tmp_path: Path, victim: Path
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
    seen = Path(sandbox.tree, "rootfs/c1", str(victim)[1:])
    assert [path.name for path in seen.iterdir()] == ["inside"]
    assert read_names(victim) == ["directory", "empty", "full"]
    files.unmount()


def test_a_container_that_cannot_be_mounted_leaves_nothing(
    sandbox: Sandbox, shares: ShareTree, tmp_path: Path
) -> None:
    files = ContainerFiles(shares, "c1")
    with pytest.raises(InvalidArgument, match="mounts\\[1\\].source: /no/such"):
        files.mount([bind_root(tmp_path)], [volume(tmp_path), volume(Path("/no/such"), 1)])
    with pytest.raises(HostResource, match="rootfs\\[0\\]: cannot mount"):
        files.mount([HostMount("ext4", "/no/such")], [])
    assert os.listdir(f"{sandbox.tree}/rootfs") == os.listdir(f"{sandbox.tree}/volumes") == []
    assert os.listdir(sandbox.scratch) == []


def test_a_mount_of_the_host_below_a_volume_arrives_in_it(
    sandbox: Sandbox, shares: ShareTree, tmp_path: Path
) -> None:
    import subprocess

    source = tmp_path / "source"
    (source / "later").mkdir(parents=True)
    subprocess.run(["mount", "--bind", "--make-shared", source, source], check=True)
    try:
        files = ContainerFiles(shares, "c1")
        (tmp_path / "root").mkdir()
        files.mount([bind_root(tmp_path / "root")], [volume(source)])
        subprocess.run(["mount", "-t", "tmpfs", "none", source / "later"], check=True)
        (source / "later/note").touch()
        assert os.listdir(f"{sandbox.tree}/volumes/c1/0/later") == ["note"]
        files.unmount()
    finally:
        subprocess.run(["umount", "-R", source], check=True)


def test_a_large_file_a_link_and_renames_in_a_loop_in_the_root_stop_no_other_container(
    shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    """What one container's processes do with its root meanwhile is nobody else's matter."""
    root = tmp_path / "root"
    root.mkdir()
    first = ContainerFiles(shares, "c1")
    first.mount([bind_root(root)], [])
    place = shares.open_place("rootfs/c1")
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
    sandbox: Sandbox, shares: ShareTree, tmp_path: Path, victim: Path
) -> None:
    """Of all that Python's audit hooks tell: names in a directory by descriptor, or our own."""
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
    assert ours <= {"c1", "0", "c1@1", "scratch", "tree", "sandbox.json", "r", "rb", "w"}, ours
    below = [name for name in seen if name.startswith((f"{sandbox.tree}/", f"{sandbox.scratch}/"))]
    assert below == []


def test_a_waiting_machines_shares_move_with_what_is_mounted_there(
    shares: ShareTree, tmp_path: Path, sandbox: Sandbox
) -> None:
    """Descriptors that its vmm has of them lead to what is mounted later."""
    other = Sandbox(str(tmp_path / "other"))
    other.create(SandboxKey("c", "n", "o"))
    root = os.open(sandbox.rootfs_dir, os.O_PATH | os.O_DIRECTORY)
    (tmp_path / "root/inside").mkdir(parents=True)
    try:
        shares.move(other)
        files = ContainerFiles(shares, "c1")
        files.mount([bind_root(tmp_path / "root")], [])
        inner = os.open("c1", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root)
        assert os.listdir(inner) == ["inside"]
        os.close(inner)
        files.unmount()
    finally:
        os.close(root)
        shares.close()
        other.remove()
    assert not os.path.exists(other.path)
