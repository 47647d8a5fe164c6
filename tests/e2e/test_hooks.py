"""Hooks of a spec, as docker and others have them: on the host, and in the guest."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import cri_spec
from tests.e2e.ctr import Ctr, Finished

HOST_HOOKS = ("prestart", "createRuntime", "poststart", "poststop")
NOTE = """\
echo "$0 $(readlink /proc/$$/ns/mnt) $(cat)" >>NOTES
"""
INTERFACE = """\
pid=$(sed 's/.*"pid": \\([0-9]*\\).*/\\1/')
ip link add hook0 type veth peer name hook1
ip link set hook0 netns "$pid"
nsenter --net=/proc/$pid/ns/net ip addr add 10.88.0.2/24 dev hook0
nsenter --net=/proc/$pid/ns/net ip link set hook0 up
"""
ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]


def shell(script: str, name: str) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script, name], "env": ENV, "timeout": 100}


def run(client: Ctr, spec: Path, hooks: dict[str, Any]) -> Finished:
    document = json.loads(spec.read_text())
    spec.write_text(json.dumps({**document, "hooks": hooks}))
    name = client.new_id()
    return client.command("run", "--rm", "--runtime", client.runtime, "--config", str(spec), name)


@pytest.fixture
def spec(debian_root: Path, tmp_path: Path) -> Path:
    probe = "import os; print(*sorted(os.listdir('/sys/class/net')))"
    return cri_spec.write(tmp_path / "config.json", debian_root, probe)


def test_hooks_of_the_host_run_there_at_their_time(ctr: Ctr, spec: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    script = NOTE.replace("NOTES", str(notes))
    done = run(ctr, spec, {name: [shell(script, name)] for name in HOST_HOOKS})
    assert done.status == 0, done
    lines = [line.split(" ", 2) for line in notes.read_text().splitlines()]
    assert [name for name, _, _ in lines] == list(HOST_HOOKS)
    assert {mounts for _, mounts, _ in lines} == {str(Path("/proc/self/ns/mnt").readlink())}
    states = [json.loads(state)["status"] for _, _, state in lines]
    assert states == ["creating", "creating", "running", "stopped"]


def test_what_a_prestart_hook_gives_to_the_namespace_is_the_guests(ctr: Ctr, spec: Path) -> None:
    """As docker 26 sets up its networks."""
    done = run(ctr, spec, {"prestart": [shell(INTERFACE, "network")]})
    assert done.status == 0, done
    assert done.stdout.split() == ["hook0", "lo"]


def test_a_hook_that_fails_is_the_error_that_the_client_shows(ctr: Ctr, spec: Path) -> None:
    done = run(ctr, spec, {"createRuntime": [shell("echo no bridge >&2; exit 3", "x")]})
    assert done.status != 0
    expected = "hooks.createRuntime[0]: /bin/sh: ended with status 3: no bridge"
    assert expected in done.stderr, done
    assert done.stdout == ""


def test_a_hook_of_the_container_whose_file_only_the_host_has(
    ctr: Ctr, spec: Path, tmp_path: Path
) -> None:
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    done = run(ctr, spec, {"createContainer": [{"path": str(hook)}]})
    assert done.status != 0
    assert "hooks.createContainer[0].path" in done.stderr, done
    assert "there is no such file in the guest" in done.stderr
