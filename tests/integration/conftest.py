"""The launcher, compiled once, and an installation of its own for each test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.build import build_launcher
from shim.host.syscalls import MS_REC, enter_mount_namespace, mount
from tests.integration.installed import LAUNCHER, Installed

MS_SHARED = 1 << 20


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("launcher") / LAUNCHER
    build_launcher(target)
    return target


@pytest.fixture(scope="session")
def _shared_mounts() -> None:
    """As on a machine with systemd; in a mount namespace of the tests."""
    enter_mount_namespace()
    mount("", "/", "", MS_REC | MS_SHARED, "")


@pytest.fixture
def installed(tmp_path: Path, launcher: Path, _shared_mounts: None) -> Iterator[Installed]:
    made = Installed(tmp_path, launcher)
    yield made
    if server := made.server():
        os.kill(server, signal.SIGKILL)
