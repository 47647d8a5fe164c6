"""Prewarmed machines (`prewarmed_machines`)."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import Configure
from tests.e2e.containerd import wait_for
from tests.e2e.ctr import TIMEOUT_S, Ctr
from tests.e2e.host import RUN_DIR, find_processes
from tests.e2e.network import run

NETNS = "sampan-prewarm-net"
Ready = Callable[[], int]


def list_ready() -> dict[int, Path]:
    """Directories of the processes that wait, by pid."""
    found = {}
    for path in RUN_DIR.glob("*/sandbox.json"):
        with suppress(FileNotFoundError, ValueError):  # one that comes or goes
            described = json.loads(path.read_text())
            if described["namespace"] == "ready":
                found[int(described["sandbox_id"])] = path.parent
    return found


def find_named(name: str) -> list[int]:
    return [int(line.split()[0]) for line in find_processes() if line.split()[1] == name]


def find_ready() -> list[int]:
    """Those that can serve."""
    return find_named("sampan-prewarm")


def wait_ready() -> int:
    """The pid of the prewarmed machine's vmm."""
    wait_for(lambda: len(find_ready()) == 1, "a machine is ready")
    (pid,) = find_ready()
    return int((list_ready()[pid] / "vmm.pid").read_text().split()[0])


@pytest.fixture
def ready(ctr: Ctr, configure: Configure) -> Iterator[Ready]:
    """One machine is ready, after a first container."""
    configure(prewarmed_machines=1)
    for _ in range(2):  # one that came before there was a warm server has nobody to ask
        ctr.run("true")
    wait_ready()
    yield wait_ready
    configure(prewarmed_machines=0)
    ctr.close()  # each sandbox requests what its own configuration says
    wait_for(lambda: not find_named("sampan-shim"), "no sandbox is left")
    for pid in find_ready():
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not list_ready(), "none waits")


def test_a_container_gets_the_machine_that_was_ready_and_the_next_one_another(
    ctr: Ctr, ready: Ready
) -> None:
    """Equal to any other; and no random number is the same."""
    numbers = set()
    for _ in range(2):
        vmm = ready()
        name = ctr.start("sleep", "1000")
        assert ctr.task_pid(name) == vmm
        numbers.add(ctr.exec(name, "cat", "/proc/sys/kernel/random/uuid").stdout)
        done = ctr.shell(name, "echo fine; exit 7")
        assert (done.status, done.stdout) == (7, "fine\n")
        assert ctr.exec(name, "hostname").stdout.strip() == os.uname().nodename
        assert ctr.kill(name).status == 0
        ctr.wait_status(name, "STOPPED")
        ctr.remove(name)
        assert not Path(f"/proc/{vmm}").exists()
    assert len(numbers) == 2
    ready()
    done = ctr.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_it_lives_in_the_containers_network(ctr: Ctr, ready: Ready) -> None:
    run("ip", "netns", "add", NETNS)
    try:
        run("ip", "-n", NETNS, "link", "add", "eth0", "type", "dummy")
        run("ip", "-n", NETNS, "addr", "add", "10.66.0.2/24", "dev", "eth0")
        run("ip", "-n", NETNS, "link", "set", "eth0", "up")
        vmm = ready()
        path = f"/run/netns/{NETNS}"
        name = ctr.start("sleep", "1000", flags=("--with-ns", f"network:{path}"))
        assert ctr.task_pid(name) == vmm
        assert os.stat(f"/proc/{vmm}/ns/net").st_ino == os.stat(path).st_ino
        assert "10.66.0.2/24" in ctr.exec(name, "ip", "addr", "show", "dev", "eth0").stdout
        ctr.remove(name)
    finally:
        run("ip", "netns", "delete", NETNS)


def test_one_that_dies_while_it_waits_costs_nothing(ctr: Ctr, ready: Ready) -> None:
    """Its directory goes when there is another one."""
    ready()
    (pid,) = find_ready()
    os.kill(pid, signal.SIGKILL)
    assert ctr.run("echo", "fine").stdout == "fine\n"
    ready()
    os.kill(ready(), signal.SIGKILL)
    wait_for(lambda: not find_ready(), "it ends with its vmm")
    assert ctr.run("echo", "fine").stdout == "fine\n"
    ready()
    assert list(list_ready()) == find_ready()


def test_its_shim_is_the_parent_that_learns_how_it_ended(ctr: Ctr, ready: Ready) -> None:
    vmm = ready()
    name, process = ctr.popen("sh", "-c", "echo up; sleep 1000")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert ctr.task_pid(name) == vmm
        os.kill(vmm, signal.SIGKILL)
        assert process.wait(TIMEOUT_S) == 137
    finally:
        process.kill()
        process.communicate()


def test_other_limits_are_another_machine(ctr: Ctr, ready: Ready) -> None:
    vmm = ready()
    name = ctr.start("sleep", "1000", flags=("--annotation", "dev.sampan.memory_mib=700"))
    assert ctr.task_pid(name) != vmm
    assert subprocess.run(["sampan", "counters", "default", name], check=False).returncode == 0
