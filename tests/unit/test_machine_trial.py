"""The container by which a template is tried: one that the agent takes and that ends at once."""

import json
import os
import subprocess
from pathlib import Path

from agent.spec import parse_container
from shim.machine.sandbox import Sandbox
from shim.machine.template_trial import NAME, describe_container, make_root, remove_root


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
