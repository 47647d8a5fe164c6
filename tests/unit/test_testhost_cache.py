"""Cache entries are whole or absent, keyed by their inputs, and do not pile up."""

import os
from pathlib import Path

import pytest

from tests.testhost.cache import cached, hash_inputs
from tests.testhost.lock import machine_lock
from tests.testhost.requirements import split_requirements


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMPAN_TESTHOST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_entry_is_built_once() -> None:
    built: list[Path] = []
    for _ in range(2):
        entry = cached("thing", "k", built.append, keep=1)
    assert len(built) == 1
    assert entry.is_dir()


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    def fail(path: Path) -> None:
        (path / "half").touch()
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError):
        cached("thing", "k", fail, keep=1)
    assert list(cache.iterdir()) == []


def test_the_entries_used_last_are_kept(cache: Path) -> None:
    for age, key in enumerate(["old", "older"]):
        os.utime(cached("thing", key, lambda _: None, keep=2), (100 - age, 100 - age))
    cached("thing", "new", lambda _: None, keep=2)
    assert sorted(path.name for path in cache.iterdir()) == ["thing-new", "thing-old"]


def test_a_key_changes_with_any_input_and_with_where_they_are_cut(tmp_path: Path) -> None:
    file = tmp_path / "input"
    keys = [hash_inputs("ab", "c"), hash_inputs("a", "bc"), hash_inputs(file)]
    file.write_text("x")
    keys += [hash_inputs(file)]
    assert len(set(keys)) == len(keys)


def test_a_second_run_says_for_whom_it_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    asked: list[int] = []
    real = fcntl.flock

    def refuse_first(file: int, flags: int) -> None:
        asked.append(flags)
        if flags & fcntl.LOCK_NB:
            real(file, flags)  # held by the outer block: raises as it does for another process

    with machine_lock("run", tmp_path):
        monkeypatch.setattr(fcntl, "flock", refuse_first)
        with machine_lock("run", tmp_path):
            pass
    assert asked == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
    assert f"waiting for the run of process {os.getpid()}" in capsys.readouterr().err


def test_runs_that_share_are_beside_each_other_and_never_beside_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    real = fcntl.flock

    def never_wait(file: int, flags: int) -> None:
        real(file, flags | fcntl.LOCK_NB)

    monkeypatch.setattr(fcntl, "flock", never_wait)
    with (
        machine_lock("run", tmp_path, shared=True),
        machine_lock("run", tmp_path, shared=True),
        pytest.raises(BlockingIOError),
        machine_lock("run", tmp_path),
    ):
        pass
    with (
        machine_lock("run", tmp_path),
        pytest.raises(BlockingIOError),
        machine_lock("run", tmp_path, shared=True),
    ):
        pass


def test_a_lock_file_is_split_by_package() -> None:
    text = "# comment\nOne==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\ntwo==2\n"
    assert split_requirements(text) == {
        "one": "One==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n",
        "two": "two==2\n",
    }
