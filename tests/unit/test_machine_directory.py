"""A sandbox's directory: one name for each sandbox, and no other's files are removed."""

import json
import os
from pathlib import Path

import pytest

from shim.machine.directory import SandboxDirectory, SandboxKey, find_sandbox, list_sandboxes

KEY = SandboxKey("/run/containerd/containerd.sock", "k8s.io", "pod1")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxDirectory:
    monkeypatch.setenv("SAMPAN_STATE_DIR", str(tmp_path / "state"))
    return find_sandbox(KEY)


def test_another_id_namespace_or_containerd_is_another_directory(sandbox: SandboxDirectory) -> None:
    others = [
        SandboxKey("/other.sock", "k8s.io", "pod1"),
        SandboxKey("/run/containerd/containerd.sock", "moby", "pod1"),
        SandboxKey("/run/containerd/containerd.sock", "k8s.io", "pod2"),
    ]
    paths = {find_sandbox(key).path for key in others} | {sandbox.path}
    assert len(paths) == 4
    assert find_sandbox(KEY).path == sandbox.path


def test_socket_paths_fit_into_a_sockaddr() -> None:
    key = SandboxKey("/" + "x" * 200, "n" * 76, "i" * 76)
    assert len(find_sandbox(key).agent_socket) < 100


def test_only_root_can_look_inside(sandbox: SandboxDirectory) -> None:
    sandbox.create(KEY)
    assert os.stat(sandbox.path).st_mode & 0o777 == 0o700


def test_a_directory_is_made_once(sandbox: SandboxDirectory) -> None:
    sandbox.create(KEY)
    with pytest.raises(FileExistsError):
        sandbox.create(KEY)


def test_remove_takes_everything_of_ours_and_can_be_repeated(sandbox: SandboxDirectory) -> None:
    sandbox.create(KEY)
    for path in (sandbox.socket, sandbox.console, sandbox.counters, sandbox.vmm_pid):
        Path(path).write_text("x")
    sandbox.remove()
    assert not Path(sandbox.path).exists()
    sandbox.remove()


def test_remove_leaves_files_that_are_somebody_elses(sandbox: SandboxDirectory) -> None:
    """Files below a mount point are a user's volume if it is still mounted."""
    sandbox.create(KEY)
    precious = Path(sandbox.tree, "volumes", "data")
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    sandbox.remove()
    assert precious.read_text() == "precious"


def test_remove_follows_no_link(sandbox: SandboxDirectory, tmp_path: Path) -> None:
    sandbox.create(KEY)
    precious = tmp_path / "precious"
    (precious / "empty").mkdir(parents=True)
    Path(sandbox.path, "link").symlink_to(precious)
    Path(sandbox.tree).rmdir()
    Path(sandbox.tree).symlink_to(precious)
    sandbox.remove()
    assert not Path(sandbox.path).exists()
    assert [path.name for path in precious.iterdir()] == ["empty"]


def test_remove_enters_no_other_sandbox(sandbox: SandboxDirectory, tmp_path: Path) -> None:
    """A link with the directory's name does not belong to the sandbox."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    Path(sandbox.path).parent.mkdir()
    Path(sandbox.path).symlink_to(other)
    with pytest.raises(NotADirectoryError):
        sandbox.remove()
    assert (other / "file").exists()


def test_sandboxes_are_listed_by_what_they_say_they_are(sandbox: SandboxDirectory) -> None:
    assert list(list_sandboxes()) == []
    sandbox.create(KEY)
    broken = Path(sandbox.path).parent / "broken"
    broken.mkdir()
    (broken / "sandbox.json").write_text(json.dumps({"other": 1}))
    ((key, found),) = list_sandboxes()
    assert (key.to_json(), found.path) == (KEY.to_json(), sandbox.path)
