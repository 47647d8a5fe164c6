"""A cgroup's directory, against a directory tree that stands for the hierarchy."""

from pathlib import Path

import pytest

from shim.errors import FailedPrecondition, HostResource
from shim.host import cgroup
from shim.host.cgroup import HostCgroup, enable_controllers, is_unified
from shim.machine.bounds import HostBounds, begin_quota, enter_bounds
from shim.machine.cleanup import remove_noted_cgroup
from shim.machine.directory import SandboxDirectory


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hierarchy = tmp_path / "hierarchy"
    hierarchy.mkdir()
    for name, text in (("controllers", "cpu memory misc"), ("subtree_control", "cpu")):
        (hierarchy / f"cgroup.{name}").write_text(text)
    (hierarchy / "cgroup.procs").touch()
    monkeypatch.setattr(cgroup, "ROOT", str(hierarchy))
    monkeypatch.setattr("shim.machine.cleanup.ROOT", str(hierarchy))
    return hierarchy


def make(root: Path, path: str) -> HostCgroup:
    """Makes a cgroup with the files that the kernel would make in it."""
    made = HostCgroup(path)
    made.make()
    for name in ("cgroup.procs", "memory.max", "memory.events"):
        (root / path / name).touch()
    return made


def test_what_is_missing_on_the_way_is_made(root: Path) -> None:
    assert make(root, "kubepods/pod1/c1").path == f"{root}/kubepods/pod1/c1"
    assert (root / "cgroup.subtree_control").read_text() == "+memory"


def test_a_controller_that_cannot_be_had_stops_nobody(root: Path) -> None:
    (root / "cgroup.controllers").write_text("cpu memory")
    (root / "cgroup.subtree_control").write_text("cpu memory")
    enable_controllers(str(root))
    assert (root / "cgroup.subtree_control").read_text() == "cpu memory"


def test_limits_of_controllers_that_are_not_there_are_not_needed(root: Path) -> None:
    made = make(root, "c1")
    made.limit({"memory.max": "1048576", "cpu.max": "1 2"})
    assert (root / "c1/memory.max").read_text() == "1048576"
    assert not (root / "c1/cpu.max").exists()
    assert made.read_limit() == "1048576"


def test_one_that_somebody_is_in_is_not_taken(root: Path) -> None:
    make(root, "c1")
    (root / "c1/cgroup.procs").write_text("1\n")
    with pytest.raises(FileExistsError, match="processes are in it already"):
        HostCgroup("c1").make()


def test_a_small_quota_of_the_cpu_does_not_slow_the_boot_down(root: Path, tmp_path: Path) -> None:
    """It holds from the agent's first answer on; everything else at once."""
    (root / "c1").mkdir()
    for name in ("cgroup.procs", "memory.max", "cpu.max"):
        (root / "c1" / name).touch()
    bounds = HostBounds("c1", {"memory.max": "1048576", "cpu.max": "5000 100000"})
    entered = enter_bounds(bounds, SandboxDirectory(str(tmp_path)))
    assert (root / "c1/memory.max").read_text() == "1048576"
    assert (root / "c1/cpu.max").read_text() == ""
    begin_quota(entered)
    assert (root / "c1/cpu.max").read_text() == "5000 100000"


@pytest.mark.parametrize("cgroup_path", ["", "c1"])
def test_without_a_quota_none_begins(root: Path, tmp_path: Path, cgroup_path: str) -> None:
    (root / "c1").mkdir()
    (root / "c1/cgroup.procs").touch()
    entered = enter_bounds(HostBounds(cgroup_path, {}), SandboxDirectory(str(tmp_path)))
    begin_quota(entered)
    assert not (root / "c1/cpu.max").exists()


def test_kills_for_want_of_memory_are_counted(root: Path) -> None:
    made = make(root, "c1")
    assert made.count_oom_kills() == 0
    (root / "c1/memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert made.count_oom_kills() == 2


def test_what_a_killed_shim_has_noted_is_removed(root: Path, tmp_path: Path) -> None:
    sandbox = SandboxDirectory(str(tmp_path))
    remove_noted_cgroup(sandbox)
    (root / "c1").mkdir()
    for path in (f"{root}/c1", str(tmp_path / "precious")):
        (tmp_path / "precious").mkdir(exist_ok=True)
        Path(sandbox.cgroup).write_text(path)
        remove_noted_cgroup(sandbox)
    assert not (root / "c1").exists()
    assert (tmp_path / "precious").exists()


def test_a_host_with_cgroup_v1_is_told_what_to_do(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "cgroup.controllers").unlink()
    assert not is_unified()
    with pytest.raises(FailedPrecondition, match="host_cgroup: never"):
        enter_bounds(HostBounds("c1", {}), SandboxDirectory(str(tmp_path)))


def test_no_cgroup_is_entered_where_none_is_named(root: Path, tmp_path: Path) -> None:
    assert (
        enter_bounds(HostBounds("", {"memory.max": "1"}), SandboxDirectory(str(tmp_path))) is None
    )


def test_a_cgroup_that_cannot_be_made_is_named(root: Path, tmp_path: Path) -> None:
    (root / "c1").write_text("no directory")
    with pytest.raises(HostResource, match=rf"linux\.cgroupsPath: {root}/c1"):
        enter_bounds(HostBounds("c1/below", {}), SandboxDirectory(str(tmp_path)))
