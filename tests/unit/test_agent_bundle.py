"""Modules from one file: they are found, complete as an import makes them, and
removed."""

import marshal
import subprocess
import sys
from pathlib import Path

import pytest

from agent import bundle, modules
from proto import contract

PROGRAM = """
import sys
from agent.bundle import install, remove
install(sys.argv[1])
import made, made.inner
assert made.inner.answer() == 42
assert made.__file__ == "/made/__init__.pyc" and made.__path__ == ["/made"]
assert made.inner.__package__ == "made" and made.inner.__spec__.parent == "made"
remove()
try:
    import other
except ModuleNotFoundError:
    print("good")
"""
SOURCES = {
    "made": ("/made/__init__.pyc", ["/made"], ""),
    "made.inner": ("/made/inner.pyc", None, "def answer(): return 42"),
    "other": ("/other.pyc", None, ""),
}


def run_program(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False
    )


def test_bundled_modules_are_imported_as_from_files(tmp_path: Path) -> None:
    content = {
        name: (origin, locations, marshal.dumps(compile(source, origin, "exec")))
        for name, (origin, locations, source) in SOURCES.items()
    }
    (tmp_path / "bundle").write_bytes(marshal.dumps(content))
    done = run_program(tmp_path / "bundle")
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_no_bundle_is_no_error(tmp_path: Path) -> None:
    before = list(sys.meta_path)
    bundle.install(str(tmp_path / "none"))
    assert sys.meta_path == before


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that load() would be called with, in order."""
    listing = tmp_path / "modules"
    listing.write_text("/m/vsock.ko\n/m/vmw-transport.ko\n/m/overlay.ko\n")
    found: list[str] = []
    monkeypatch.setattr(contract, "GUEST_MODULES_FILE", str(listing))
    monkeypatch.setattr("agent.modules.linux.load_module", found.append)
    return found


def test_file_systems_wait_until_they_are_asked_for(
    loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    modules.load_at_start()
    assert loaded == ["/m/vsock.ko", "/m/vmw-transport.ko"]
    monkeypatch.setattr(sys, "argv", ["/sbin/modprobe", "-q", "--", "fs-overlay"])
    modules.main()
    assert loaded[2:] == ["/m/overlay.ko"]


def test_an_unknown_module_is_an_error_status(
    loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/sbin/modprobe", "-q", "--", "net-pf-21"])
    with pytest.raises(SystemExit, match="1"):
        modules.main()
    assert loaded == []


def test_a_guest_without_modules_needs_no_list(
    loaded: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contract, "GUEST_MODULES_FILE", str(tmp_path / "none"))
    modules.load_at_start()
    assert loaded == []
