"""The container by which a template is tried: one that the agent takes and that ends at once."""

import json
import os
import subprocess
from pathlib import Path
from typing import cast

import pytest

from agent.spec import parse_container
from shim.errors import GuestFault
from shim.machine.machine import Machine
from shim.machine.sandbox import Sandbox
from shim.machine.template_trial import NAME, describe_container, make_root, remove_root, try_clone


def test_its_program_ends_with_nothing(tmp_path: Path) -> None:
    sandbox = Sandbox(str(tmp_path))
    os.mkdir(sandbox.rootfs_dir)
    root = make_root(sandbox)
    assert subprocess.run([f"{root}/{NAME}"], check=False).returncode == 0
    remove_root(root)
    assert os.listdir(sandbox.rootfs_dir) == []


def test_the_agent_takes_its_spec() -> None:
    parsed = parse_container(json.dumps(describe_container()).encode(), NAME, terminal=False)
    assert parsed.init.program == f"/{NAME}"
    assert parsed.shared_paths


class BootedMachine:
    """Its vmm could not go on from the template and has booted."""

    is_clone = False

    async def wait_agent(self) -> None:
        return


async def test_a_machine_that_has_booted_tells_nothing_of_clones(tmp_path: Path) -> None:
    sandbox = Sandbox(str(tmp_path))
    os.mkdir(sandbox.rootfs_dir)
    with pytest.raises(GuestFault, match="does not go on from the template"):
        await try_clone(cast(Machine, BootedMachine()), sandbox)
    assert os.listdir(sandbox.rootfs_dir) == []
