"""The OCI command line's processes and protocol: monitor, server, commands, errors.

The guest is the agent on this machine (tests/fakes/vmm.py): no KVM.  What the machine
itself does is tests/e2e/test_oci_cli.py's.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shim.host.pids import load_identity
from tests.integration.installed import TREE, Installed, wait_for
from tests.oci_client import Runtime, accept_master, make_spec, read_until, set_size

pytestmark = pytest.mark.integration
LOOP = "trap 'exit 5' TERM; trap 'echo hup' HUP; echo on; while :; do sleep 0.1; done"


@pytest.fixture
def sampan(installed: Installed) -> Iterator[Runtime]:
    image = installed.top / "image"
    (image / "root").mkdir(parents=True)
    (image / "vmlinux").touch()
    config = installed.top / "config.yaml"
    settings = {
        "image_dir": str(image),
        "templates": "never",
        "host_cgroup": "never",
        "vmm_command": [sys.executable, "-m", "tests.fakes.vmm"],
    }
    config.write_text(json.dumps(settings))
    (installed.code / "tests").symlink_to(TREE / "tests")
    (installed.code / "agent").symlink_to(TREE / "agent")
    environment = {**installed.environment, "SAMPAN_CONFIG": str(config)}
    with Runtime(str(installed.top / "bin/sampan"), installed.top, environment) as runtime:
        yield runtime


def list_sandboxes(sampan: Runtime) -> list[Path]:
    return list((sampan.top / "run").glob("*/sandbox.json"))


def holds_pipes(pid: int) -> bool:
    entries = Path(f"/proc/{pid}/fd").iterdir()
    return any(os.readlink(entry).startswith("pipe:") for entry in entries)


def test_what_the_program_writes_and_how_it_ends_are_the_callers(sampan: Runtime) -> None:
    """Without a warm server, and with the one that the first call has started."""
    bundle = str(sampan.bundle(make_spec("sh", "-c", "cat; echo oops >&2; exit 7"), "own"))
    for name in ("c1", "c2"):
        done = sampan.call("run", "--bundle", bundle, name, stdin=b"in\n")
        assert (done.returncode, done.stdout, done.stderr) == (7, b"in\n", b"oops\n")
    assert not list(sampan.root.iterdir())
    assert not list_sandboxes(sampan)


def test_the_monitor_is_the_parents_child_and_ends_as_the_container(sampan: Runtime) -> None:
    bundle = str(sampan.bundle(make_spec("sh", "-c", LOOP), "own"))
    reader, writer = os.pipe()
    parent = sampan.under_parent("create", "--bundle", bundle, "c1", stdout=writer)
    os.close(writer)
    status = Path(f"/proc/{parent.pid}/status").read_text()
    assert f"\nPPid:\t{parent.process.pid}\n" in status
    wait_for(lambda: not holds_pipes(parent.pid))  # it has them until its own parent has ended
    sampan.must("start", "c1")
    assert read_until(reader, b"\n") == b"on\n"
    os.kill(parent.pid, signal.SIGHUP)  # the container's
    assert read_until(reader, b"\n") == b"hup\n"
    sampan.must("kill", "c1")
    assert parent.wait() == "exit 5"
    assert os.read(reader, 10) == b""  # nobody else has the pipe
    os.close(reader)
    assert sampan.state("c1")["status"] == "stopped"
    sampan.must("delete", "c1")
    assert not list_sandboxes(sampan)


def test_a_monitor_that_is_killed_ends_its_container(sampan: Runtime) -> None:
    bundle = str(sampan.bundle(make_spec("sleep", "1000"), "own"))
    parent = sampan.under_parent("create", "--bundle", bundle, "c1")
    (sandbox,) = list_sandboxes(sampan)
    vmm = load_identity(str(sandbox.parent / "vmm.pid"))
    assert vmm is not None
    os.kill(parent.pid, signal.SIGKILL)
    assert parent.wait() == "signal 9"
    sampan.wait_status("c1", "stopped")
    sampan.must("delete", "c1")
    assert not Path(f"/proc/{vmm.pid}").exists()
    assert not list_sandboxes(sampan)


def test_a_server_that_is_killed_ends_container_and_monitor(sampan: Runtime) -> None:
    bundle = str(sampan.bundle(make_spec("sleep", "1000"), "own"))
    parent = sampan.under_parent("create", "--bundle", bundle, "c1")
    (sandbox,) = list_sandboxes(sampan)
    server = load_identity(str(sandbox.parent / "shim.pid"))
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    assert parent.wait() == "signal 9"
    assert sampan.state("c1")["status"] == "stopped"
    sampan.must("delete", "c1")
    assert not list_sandboxes(sampan)


@pytest.mark.parametrize("running", [False, True])
def test_a_vmm_that_is_killed_ends_container_and_monitor(sampan: Runtime, running: bool) -> None:
    bundle = str(sampan.bundle(make_spec("sleep", "1000"), "own"))
    parent = sampan.under_parent("create", "--bundle", bundle, "c1")
    if running:
        sampan.must("start", "c1")
    (sandbox,) = list_sandboxes(sampan)
    vmm = load_identity(str(sandbox.parent / "vmm.pid"))
    assert vmm is not None
    os.kill(vmm.pid, signal.SIGKILL)
    assert parent.wait() == "exit 137"
    sampan.wait_status("c1", "stopped")
    sampan.must("delete", "c1")
    assert not list_sandboxes(sampan)


def test_an_exec_has_a_monitor_too(sampan: Runtime) -> None:
    sampan.start(sampan.bundle(make_spec("sleep", "1000"), "own"))
    done = sampan.call("exec", "-e", "A=b", "c1", "sh", "-c", "echo $A; cat; exit 3", stdin=b"x")
    assert (done.returncode, done.stdout) == (3, b"b\nx"), done
    reader, writer = os.pipe()
    parent = sampan.under_parent("exec", "-d", "c1", "sh", "-c", LOOP, stdout=writer)
    os.close(writer)
    assert read_until(reader, b"\n") == b"on\n"
    os.kill(parent.pid, signal.SIGTERM)
    assert parent.wait() == "exit 5"
    killed = sampan.under_parent("exec", "-d", "c1", "sh", "-c", LOOP)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == "signal 9"
    with_it = sampan.under_parent("exec", "-d", "c1", "sleep", "1000")
    sampan.must("kill", "c1", "KILL")
    assert with_it.wait() == "exit 137"
    os.close(reader)
    sampan.must("delete", "--force", "c1")


def test_a_console_has_the_size_that_its_owner_sets(sampan: Runtime) -> None:
    script = "trap 'stty size' WINCH; stty size; read line; echo got $line; read line; read line"
    bundle = str(sampan.bundle(make_spec("sh", "-c", script, terminal=True), "own"))
    path = sampan.top / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        words = ("create", "--console-socket", str(path), "--bundle", bundle, "c1")
        parent = sampan.under_parent(*words)
        master = accept_master(listener)
    set_size(master, 33, 111)
    sampan.must("start", "c1")
    os.write(master, b"typed\n")
    read = read_until(master, b"got typed\r\n")
    assert b"33 111\r\n" in read
    assert b"typed\r\n" in read.partition(b"got")[0]  # echoed there
    set_size(master, 44, 99)
    assert b"44 99\r\n" in read_until(master, b"44 99\r\n")
    os.write(master, b"\n\n")
    read_until(master, b"nothing more")
    os.close(master)
    assert parent.wait() == "exit 0"
    sampan.must("delete", "c1")


def test_a_terminal_in_the_foreground_is_raw_meanwhile(sampan: Runtime) -> None:
    script = "stty size; read line; echo got $line; exit 4"
    bundle = str(sampan.bundle(make_spec("sh", "-c", script, terminal=True), "own"))
    master, slave = os.openpty()
    set_size(slave, 20, 70)
    before = termios.tcgetattr(slave)
    with subprocess.Popen(
        sampan.words("run", "--bundle", bundle, "c1"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, **sampan.environment},
    ) as caller:
        try:
            assert b"20 70\r\n" in read_until(master, b"\r\n")
            assert not termios.tcgetattr(slave)[3] & termios.ICANON
            os.write(master, b"typed\n")
            assert b"got typed\r\n" in read_until(master, b"got typed\r\n")
            assert caller.wait(60) == 4
        finally:
            caller.kill()
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_a_terminal_needs_somebody_who_has_it(sampan: Runtime) -> None:
    bundle = str(sampan.bundle(make_spec("true", terminal=True), "own"))
    refused = sampan.call("create", "--bundle", bundle, "c1")
    assert (refused.returncode, b"--console-socket" in refused.stderr) == (1, True)
    unheard = sampan.call("create", "--console-socket", "/no/such", "--bundle", bundle, "c1")
    assert (unheard.returncode, b"/no/such" in unheard.stderr) == (1, True)
    assert not list(sampan.root.iterdir())


def test_states_are_checked(sampan: Runtime) -> None:
    bundle = str(sampan.bundle(make_spec("sleep", "1000"), "own"))
    parent = sampan.under_parent("create", "--bundle", bundle, "c1")
    again = sampan.call("create", "--bundle", bundle, "c1")
    assert (again.returncode, b"exists" in again.stderr) == (1, True)
    sampan.must("start", "c1")
    twice = sampan.call("start", "c1")
    assert (twice.returncode, b"running" in twice.stderr) == (1, True)
    assert b"not stopped" in sampan.call("delete", "c1").stderr
    sampan.must("delete", "--force", "c1")
    assert parent.wait() == "exit 137"
    assert sampan.call("delete", "c1").returncode == 1
    sampan.must("delete", "--force", "c1")


def test_a_created_container_can_be_deleted(sampan: Runtime) -> None:
    parent = sampan.under_parent(
        "create", "--bundle", str(sampan.bundle(make_spec("true"), "own")), "c1"
    )
    sampan.must("delete", "c1")
    assert parent.wait() == "exit 137"
    assert not list_sandboxes(sampan)


def test_an_error_is_a_line_on_stderr_and_one_in_the_log(sampan: Runtime) -> None:
    """And nothing is left of the container."""
    spec = make_spec("true")
    spec["linux"]["namespaces"] = [{"type": "pid"}]
    log = sampan.top / "log.json"
    words = ("--log", str(log), "--log-format", "json", "create", "--bundle")
    done = sampan.call(*words, str(sampan.bundle(spec, "own")), "c1")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"linux.namespaces: no network namespace" in done.stderr
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["msg"]) == ("error", done.stderr.decode().strip())
    assert not list(sampan.root.iterdir())
    assert not list_sandboxes(sampan)


def test_a_caller_that_is_killed_leaves_nothing(sampan: Runtime, installed: Installed) -> None:
    """While its container is being created."""
    config = json.loads((installed.top / "config.yaml").read_text())
    config["vmm_command"] = [sys.executable, "-c", "import time; time.sleep(1000)"]
    (installed.top / "config.yaml").write_text(json.dumps(config))
    bundle = str(sampan.bundle(make_spec("true"), "own"))
    with subprocess.Popen(
        sampan.words("create", "--bundle", bundle, "c1"),
        stderr=subprocess.DEVNULL,
        env={**os.environ, **sampan.environment},
    ) as caller:
        wait_for(lambda: list_sandboxes(sampan))
        caller.kill()
    wait_for(lambda: not list_sandboxes(sampan) and not list(sampan.root.iterdir()))


def test_the_server_of_another_request_is_not_disturbed_by_nonsense(sampan: Runtime) -> None:
    sampan.start(sampan.bundle(make_spec("sleep", "1000"), "own"))
    (sandbox,) = list_sandboxes(sampan)
    for data in (b"nonsense", b"{}", b'{"op": "frob", "args": {}}', b'{"op": "kill", "args": 1}'):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(str(sandbox.parent / "shim.sock"))
            peer.send(data)
            assert "error" in json.loads(peer.recv(1000))
    assert sampan.state("c1")["status"] == "running"
    sampan.must("delete", "--force", "c1")


def test_ps_is_about_the_host_unless_it_names_a_container(sampan: Runtime) -> None:
    bundle = str(sampan.bundle(make_spec("sleep", "1000"), "own"))
    parent = sampan.under_parent("create", "--bundle", bundle, "c1")
    (found,) = list_host(sampan)
    assert (found["namespace"], found["id"], found["state"]) == ("oci", "c1", "running")
    refused = sampan.call("ps", "c1")
    assert (refused.returncode, b"ps: sampan does not support it" in refused.stderr) == (1, True)
    sampan.must("delete", "--force", "c1")
    assert parent.wait() == "exit 137"
    assert list_host(sampan) == []


def list_host(sampan: Runtime) -> Any:
    done = subprocess.run(
        [sampan.program, "ps", "--json"],
        env={**os.environ, **sampan.environment},
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)
