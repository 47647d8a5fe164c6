"""The container by which a template is made and tried: one that ends at once."""

import json
import subprocess
from pathlib import Path
from typing import cast

import pytest

from agent.spec import parse_container
from image.trial import MOUNT_POINTS, write_trial
from proto.contract import GUEST_TRIAL_DIR, GUEST_TRIAL_PROGRAM
from shim.errors import GuestFault
from shim.machine.machine import SandboxMachine
from shim.machine.templates.trial import NAME, describe_container, try_clone


def test_its_program_ends_with_nothing(tmp_path: Path) -> None:
    write_trial(tmp_path)
    program = f"{tmp_path}{GUEST_TRIAL_DIR}{GUEST_TRIAL_PROGRAM}"
    assert subprocess.run([program], check=False).returncode == 0


def test_the_agent_takes_its_spec() -> None:
    parsed = parse_container(json.dumps(describe_container()).encode(), NAME, terminal=False)
    assert parsed.init.program == GUEST_TRIAL_PROGRAM


def test_nothing_of_it_is_the_hosts() -> None:
    """No snapshot can be taken of a machine that has files of a share that are
    gone."""
    parsed = parse_container(json.dumps(describe_container()).encode(), NAME, terminal=False)
    assert parsed.shared_paths == ()
    assert parsed.document["root"] == {"path": GUEST_TRIAL_DIR, "readonly": True}


def test_its_root_has_a_place_for_every_mount() -> None:
    """It is read only, so crun cannot make any."""
    for mount in describe_container()["mounts"]:
        first = mount["destination"].split("/")[1]
        assert first in MOUNT_POINTS


class BootedMachine:
    """A machine whose vmm could not restore the template, and has booted."""

    is_clone = False

    async def wait_agent(self) -> None:
        return


async def test_a_machine_that_has_booted_tells_nothing_of_clones() -> None:
    with pytest.raises(GuestFault, match="booted instead of being restored"):
        await try_clone(cast(SandboxMachine, BootedMachine()))
