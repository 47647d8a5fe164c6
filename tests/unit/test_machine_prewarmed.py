"""A prewarmed machine, against vmm processes that are small scripts."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shim.config import Config
from shim.errors import HostResource
from shim.machine.directory import SandboxDirectory, SandboxKey
from shim.machine.launch import spawn_vmm
from shim.machine.prewarmed import (
    PrewarmedMachine,
    name_prewarmed,
    prewarm_machine,
    start_prewarmed,
)
from shim.machine.request import LaunchRequest
from shim.machine.size import MachineSize
from shim.machine.templates.identity import MachineClass
from tests.fakes.script import CONTROL
from tests.fakes.shares import FakeShares

CLASS = MachineClass(MachineSize(1, 1 << 26), 0)
PRELUDE = f"""\
{CONTROL}
prewarm, fds = receive()
assert prewarm["op"] == "prewarm" and len(fds) == 2
open(prewarm["args"]["console_path"], "w").close()
"""
PREWARMED = PRELUDE + "send(id=1, result={})\n"
Prewarm = Callable[[str], PrewarmedMachine]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "root").mkdir()
    (tmp_path / "vmlinux").touch()
    return Config(image_dir=str(tmp_path))


def make_sandbox(tmp_path: Path, name: str) -> SandboxDirectory:
    sandbox = SandboxDirectory(str(tmp_path / name))
    sandbox.create(SandboxKey("c", "n", name))
    return sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> SandboxDirectory:
    return make_sandbox(tmp_path, "waiting")


@pytest.fixture
def prewarm(config: Config, sandbox: SandboxDirectory) -> Iterator[Prewarm]:
    prewarmed: list[PrewarmedMachine] = []

    def make(script: str) -> PrewarmedMachine:
        changed = replace(config, vmm_command=(sys.executable, "-c", script))
        request = LaunchRequest(changed, sandbox, CLASS, log_fd=2, template="/t")
        prewarmed.append(prewarm_machine(request, spawn_vmm, FakeShares))
        return prewarmed[-1]

    yield make
    for machine in prewarmed:
        machine.close()
        os.waitpid(machine.pid, 0)


def test_a_template_that_is_no_good_is_told_and_the_vmm_ends(prewarm: Prewarm) -> None:
    refusal = "send(id=1, error={'category': 'HostResource', 'message': 'damaged'})\nreceive()"
    with pytest.raises(HostResource, match="template /t: damaged"):
        prewarm(PRELUDE + refusal)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0


def test_a_vmm_that_dies_is_reported(prewarm: Prewarm) -> None:
    with pytest.raises(HostResource, match="the vmm has ended"):
        prewarm(PRELUDE + "sys.exit(3)")
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 3


@pytest.mark.parametrize(
    "said",
    ["control.send(b'[')", "send(event='stopped', args={'reason': 'reset', 'detail': ''})"],
)
def test_a_vmm_that_breaks_the_protocol_is_not_prewarmed(prewarm: Prewarm, said: str) -> None:
    with pytest.raises(HostResource, match="the vmm broke the protocol of its control socket"):
        prewarm(PRELUDE + said + "\nreceive()")
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0


def test_what_the_machine_has_goes_with_it_to_its_sandbox(
    prewarm: Prewarm, sandbox: SandboxDirectory, tmp_path: Path
) -> None:
    prewarmed = prewarm(
        PREWARMED + "start, fds = receive()\nassert start['op'] == 'start' and len(fds) == 1"
    )
    other = make_sandbox(tmp_path, "container")
    launched = start_prewarmed(prewarmed, replace(prewarmed.request, sandbox=other))
    assert (launched.pid, launched.request.sandbox) == (prewarmed.pid, other)
    assert not Path(sandbox.path).exists()
    assert {"agent.sock", "console.log", "vmm.pid"} <= set(os.listdir(other.path))
    assert launched.shares.scratch == other.scratch


def test_nothing_is_moved_when_its_vmm_has_ended(
    prewarm: Prewarm, sandbox: SandboxDirectory, tmp_path: Path
) -> None:
    prewarmed = prewarm(PREWARMED)
    while os.waitid(os.P_PID, prewarmed.pid, os.WEXITED | os.WNOWAIT) is None:
        pass
    other = make_sandbox(tmp_path, "container")
    with pytest.raises(HostResource, match="the vmm has ended"):
        start_prewarmed(prewarmed, replace(prewarmed.request, sandbox=other))
    assert Path(sandbox.agent_socket).exists()
    assert not Path(other.agent_socket).exists()


def test_machines_of_other_configurations_classes_or_templates_have_other_names(
    tmp_path: Path,
) -> None:
    config = Config()
    bigger = replace(CLASS, nics=1)
    (tmp_path / "memory").touch()
    names = {
        name_prewarmed(config, CLASS, ""),
        name_prewarmed(replace(config, log_level="debug"), CLASS, ""),
        name_prewarmed(config, bigger, ""),
        name_prewarmed(config, CLASS, str(tmp_path)),
    }
    os.utime(tmp_path / "memory", (1, 1))  # it has been made again
    names.add(name_prewarmed(config, CLASS, str(tmp_path)))
    assert len(names) == 5
