"""The machine that is requested, from the configuration and from the host."""

import os
from pathlib import Path

import pytest

from shim.config import Config
from shim.machine import boot
from shim.machine.directory import SandboxDirectory
from shim.machine.request import LaunchRequest
from shim.machine.size import MachineSize
from shim.machine.templates.identity import MachineClass


def describe(tmp_path: Path, arguments: str = "") -> str:
    config = Config(image_dir=str(tmp_path), kernel_arguments=arguments)
    machine_class = MachineClass(MachineSize(1, 1 << 28), 0)
    sandbox = SandboxDirectory(str(tmp_path))
    request = LaunchRequest(config, sandbox, machine_class, log_fd=-1)
    return boot.describe_machine(request).kernel_arguments


@pytest.mark.parametrize(
    ("name", "expected"),
    [("node-1.example.org", "node-1.example.org"), ("a b", "sampan"), ("", "sampan")],
)
def test_the_guest_has_the_hosts_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    """A container without a hostname of its own has the host's, as under runc."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", name, "6", "#1", "x86_64")))
    assert describe(tmp_path) == f"hostname={expected}"


def test_the_configurations_arguments_come_last(tmp_path: Path) -> None:
    assert describe(tmp_path, "hostname=mine quiet").endswith(" hostname=mine quiet")
