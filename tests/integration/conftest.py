"""The launcher, compiled once, and an installation of its own for each test."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.build import build_launcher
from shim.host.syscalls import enter_mount_namespace
from tests.integration.installed import LAUNCHER, Installed


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("launcher") / LAUNCHER
    build_launcher(target)
    return target


@pytest.fixture(scope="session")
def _shared_mounts() -> None:
    """Makes mounts shared, as systemd does; in a mount namespace of the tests."""
    enter_mount_namespace()
    subprocess.run(["mount", "--make-rshared", "/"], check=True)


@pytest.fixture
def installed(tmp_path: Path, launcher: Path, _shared_mounts: None) -> Iterator[Installed]:
    made = Installed(tmp_path, launcher)
    yield made
    if server := made.server():
        os.kill(server, signal.SIGKILL)
