"""Processes with a prewarmed machine: each serves one container like the one before,
and nothing depends on them.

The vmm is a script that records its requests; tests/e2e/test_prewarmed.py shows what the
real one does with them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from shim.host.pids import ProcessIdentity, load_identity
from tests.integration.installed import Installed, wait_for

pytestmark = pytest.mark.integration
VMM = """\
import json, os, socket, sys
control = socket.socket(fileno=3)
while True:
    packet, fds, _, _ = socket.recv_fds(control, 65536, 8)
    if not packet: sys.exit(0)
    request = json.loads(packet)
    with open(sys.argv[1], "a") as notes:
        print(request["op"], os.readlink("/proc/self"), len(fds), file=notes)
    if "console_path" in request["args"]: open(request["args"]["console_path"], "w").close()
    result = {"cloned": True, "timings_us": {}}
    control.send(json.dumps({"id": request["id"], "result": result}).encode())
    if request["op"] == "stop": sys.exit(0)
"""
MAKE_TEMPLATE = """\
import os
from shim.config import load_config
from shim.machine.templates.identity import describe_class, name_class
from shim.sandbox.plan import plan_machine
config = load_config()
described = describe_class(config, plan_machine(os.getcwd(), config, "n").machine_class)
path = os.path.join(config.templates_dir, name_class(described))
os.makedirs(path)
for name in ("memory", "template.json"):
    open(f"{path}/{name}", "w").close()
"""


def catches(pid: int, number: int) -> bool:
    """Whether the process handles the signal."""
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    return bool(int(status["SigCgt"], 16) >> (number - 1) & 1)


def find_sandboxes(run_dir: Path, namespace: str) -> dict[str, Path]:
    """Directories by id, once their files are written."""
    found = {}
    for path in run_dir.glob("*/sandbox.json"):
        with suppress(FileNotFoundError, ValueError):
            described = json.loads(path.read_text())
            if described["namespace"] == namespace:
                found[described["sandbox_id"]] = path.parent
    return found


def read_oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


class Host:
    """An installation whose machines are scripts, with a template and a setting for prewarmed
    ones."""

    def __init__(self, installed: Installed, limit: int) -> None:
        self.installed = installed
        self.notes = installed.top / "notes"
        self.notes.touch()
        script = installed.top / "vmm.py"
        script.write_text(VMM)
        (installed.top / "image/root").mkdir(parents=True)
        (installed.top / "image/vmlinux").touch()
        config = {
            "image_dir": str(installed.top / "image"),
            "templates_dir": str(installed.top / "templates"),
            "vmm_command": [sys.executable, str(script), str(self.notes)],
            "prewarmed_machines": limit,
        }
        path = installed.top / "config.yaml"
        path.write_text(json.dumps(config))
        installed.environment["SAMPAN_CONFIG"] = str(path)
        installed.warm_up()
        self.make_template()

    def make_template(self) -> None:
        subprocess.run(
            [sys.executable, "-c", MAKE_TEMPLATE],
            check=True,
            cwd=self.installed.bundle,
            env={
                **os.environ,
                **self.installed.environment,
                "PYTHONPATH": str(self.installed.code),
            },
        )

    def asked(self, operation: str) -> list[int]:
        """Pids of the vmms that have received that request."""
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        return [int(pid) for name, pid, _ in lines if name == operation]

    def sandboxes(self, namespace: str) -> dict[str, Path]:
        return find_sandboxes(self.installed.top / "run", namespace)

    def run_one(self, name: str) -> None:
        """Runs a container to its end and deletes it."""
        self.installed.start(name)
        self.end(name)
        wait_for(lambda: name not in self.sandboxes("n"))

    def end(self, name: str) -> None:
        pid = self.server(name).pid
        wait_for(lambda: catches(pid, signal.SIGTERM))
        os.kill(pid, signal.SIGTERM)

    def server(self, name: str) -> ProcessIdentity:
        identity = load_identity(str(self.sandboxes("n")[name] / "shim.pid"))
        assert identity is not None
        return identity

    def wait_ready(self, count: int = 1) -> list[int]:
        """The pids of the prewarmed processes."""
        wait_for(lambda: len(self.asked("prewarm")) - len(self.asked("start")) >= count)
        wait_for(lambda: len(self.sandboxes("ready")) == count)
        return [int(pid) for pid in self.sandboxes("ready")]

    def close(self) -> None:
        for name in list(self.sandboxes("n")):
            self.installed.delete(name)


@pytest.fixture
def host(installed: Installed) -> Iterator[Host]:
    made = Host(installed, 1)
    yield made
    made.close()


def test_the_next_container_like_the_last_is_served_by_the_one_that_waits(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    (vmm,) = host.asked("prewarm")
    assert [read_oom_score(pid) for pid in (ready, vmm)] == [1000, 1000]
    host.installed.start("c2")
    wait_for(lambda: host.asked("start"))
    assert host.server("c2").pid == ready
    assert [read_oom_score(pid) for pid in (ready, vmm)] == [read_oom_score(os.getpid()) + 1] * 2
    assert host.asked("start") == host.asked("prewarm")
    assert len(host.asked("boot")) == 2  # c1, and the one started before the server ran
    sandbox = host.sandboxes("n")["c2"]
    wait_for(lambda: not host.sandboxes("ready"))
    identity = load_identity(str(sandbox / "vmm.pid"))
    assert identity is not None
    assert identity.pid == vmm
    assert {"agent.sock", "console.log", "events.sock", "shim.sock"} <= set(os.listdir(sandbox))
    assert os.readlink(f"/proc/{ready}/cwd") == str(host.installed.bundle)
    assert os.readlink(f"/proc/{ready}/fd/2") == str(host.installed.bundle / "log")
    host.installed.delete("c2")
    wait_for(lambda: not Path(f"/proc/{ready}").exists())
    assert not sandbox.exists()


def test_a_container_of_another_class_leaves_it_waiting(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    spec_path = host.installed.bundle / "config.json"
    spec = json.loads(spec_path.read_text())
    annotated = {**spec, "annotations": {"dev.sampan.memory_mib": "512"}}
    spec_path.write_text(json.dumps(annotated))
    host.installed.start("c2")
    assert host.server("c2").pid != ready
    assert list(host.sandboxes("ready")) == [str(ready)]
    assert not host.asked("start")


def test_a_template_that_is_replaced_is_not_gone_on_from(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    shutil.rmtree(host.installed.top / "templates")
    host.make_template()
    host.installed.start("c2")
    assert host.server("c2").pid != ready
    assert not host.asked("start")


def test_one_that_does_not_see_the_same_mounts_is_not_chosen(host: Host) -> None:
    """Its mount namespace does not receive later mounts."""
    host.run_one("c1")
    (ready,) = host.wait_ready()
    bundle = str(host.installed.bundle)
    subprocess.run(["mount", "--bind", bundle, bundle], check=True)
    subprocess.run(["mount", "--make-private", bundle], check=True)
    inner = host.installed.bundle / "inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], check=True)
    try:
        spec_path = host.installed.bundle / "config.json"
        spec = json.loads(spec_path.read_text())
        mount = {"destination": "/inner", "type": "bind", "source": str(inner)}
        spec_path.write_text(json.dumps({**spec, "mounts": [mount]}))
        host.installed.start("c2")
        assert host.server("c2").pid != ready
        host.installed.delete("c2")
        spec_path.write_text(json.dumps(spec))
        host.installed.start("c3")
        assert host.server("c3").pid == ready
        host.installed.delete("c3")
    finally:
        subprocess.run(["umount", "-R", bundle], check=True)


def test_two_at_once_are_served_by_two(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    names = ("c2", "c3", "c4", "c5")
    bundles = [host.installed.make_bundle(host.installed.top / name) for name in names]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(host.installed.start, names, bundles))
    pids = [host.server(name).pid for name in names]
    assert len(set(pids)) == 4
    assert pids.count(ready) == 1
    wait_for(lambda: len(host.asked("start")) == 1)


def test_one_that_hangs_is_not_waited_for_and_serves_nobody_twice(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    os.kill(ready, signal.SIGSTOP)
    host.installed.start("c2")
    assert host.server("c2").pid != ready
    os.kill(ready, signal.SIGCONT)
    host.installed.start("c3")
    assert host.server("c3").pid == ready


def test_one_that_was_killed_costs_nothing_and_leaves_nothing(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    (vmm,) = host.asked("prewarm")
    os.kill(ready, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{vmm}").exists())
    host.run_one("c2")
    wait_for(lambda: len(host.asked("prewarm")) == 2)
    wait_for(lambda: list(host.sandboxes("ready")) not in ([], [str(ready)]))


def test_it_ends_with_its_vmm(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    os.kill(host.asked("prewarm")[0], signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{ready}").exists())
    assert not host.sandboxes("ready")
    host.installed.start("c2")


def test_it_ends_with_the_server_that_made_it(host: Host) -> None:
    host.run_one("c1")
    (ready,) = host.wait_ready()
    os.kill(host.installed.server(), signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{ready}").exists())
    wait_for(lambda: not Path(f"/proc/{host.asked('prewarm')[0]}").exists())
    assert not host.sandboxes("ready")
    host.installed.start("c2")


def test_no_more_of_them_than_the_configuration_says(installed: Installed) -> None:
    host = Host(installed, 2)
    for name in ("c1", "c2", "c3"):
        host.installed.start(name)
    for name in ("c1", "c2", "c3"):
        host.end(name)
    wait_for(lambda: not host.sandboxes("n"))
    pids = host.wait_ready(2)
    assert len(host.asked("prewarm")) == 2
    installed.start("c4")
    assert host.server("c4").pid in pids
    host.close()
