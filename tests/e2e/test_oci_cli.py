"""The OCI command line, `sampan create` and the others, without containerd."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Configure
from tests.e2e.host import find_pid
from tests.oci_client import (
    TIMEOUT_S,
    Runtime,
    accept_master,
    make_spec,
    read_until,
    set_size,
)

COUNT = "trap 'echo ended; exit 5' TERM; echo begun; while :; do sleep 0.1; done"


@pytest.fixture
def sampan(tmp_path: Path) -> Iterator[Runtime]:
    with Runtime("sampan", tmp_path) as runtime:
        yield runtime


def test_run_has_the_callers_streams_and_the_programs_status(sampan: Runtime) -> None:
    bundle = sampan.bundle(make_spec("sh", "-c", "cat; echo oops >&2; exit 7"))
    done = sampan.call("run", "--bundle", str(bundle), "c1", stdin=b"through a pipe\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"through a pipe\n", b"oops\n")
    assert sampan.must("list", "-q") == b""
    assert sampan.call("state", "c1").returncode == 1


def test_a_container_lives_from_create_to_delete(sampan: Runtime) -> None:
    """As conmon has it: what is waited for is the process of the pid file."""
    bundle = sampan.bundle(make_spec("sh", "-c", COUNT))
    reader, writer = os.pipe()
    parent = sampan.under_parent("create", "--bundle", str(bundle), "c1", stdout=writer)
    os.close(writer)
    state = sampan.state("c1")
    assert (state["status"], state["pid"], state["bundle"]) == ("created", parent.pid, str(bundle))
    assert sampan.call("create", "--bundle", str(bundle), "c1").returncode == 1
    sampan.must("start", "c1")
    assert read_until(reader, b"begun\n") == b"begun\n"
    assert sampan.state("c1")["status"] == "running"
    refused = sampan.call("delete", "c1")
    assert (refused.returncode, b"not stopped" in refused.stderr) == (1, True)
    sampan.must("kill", "c1", "TERM")
    assert parent.wait() == "exit 5"
    assert read_until(reader, b"nothing more") == b"ended\n"
    os.close(reader)
    assert sampan.state("c1")["status"] == "stopped"
    assert b"not running" in sampan.call("kill", "c1").stderr
    sampan.must("delete", "c1")
    assert sampan.call("state", "c1").returncode == 1
    assert not list(sampan.root.iterdir())


def test_an_exec_is_waited_for_in_the_foreground_or_below_a_parent(sampan: Runtime) -> None:
    bundle = sampan.bundle(make_spec("sleep", "1000"))
    sampan.start(bundle)
    words = ("exec", "--env", "A=b", "--cwd", "/tmp", "--user", "7:8", "c1")
    done = sampan.call(
        *words, "sh", "-c", 'echo "$A $PWD $(id -u):$(id -g)"; cat; exit 3', stdin=b"x"
    )
    assert (done.returncode, done.stdout) == (3, b"b /tmp 7:8\nx")
    process = sampan.top / "process.json"
    args = ["sh", "-c", "trap 'exit 9' USR1; echo on; while :; do sleep 0.1; done"]
    described = {**make_spec(*args)["process"]}
    process.write_text(json.dumps(described))
    reader, writer = os.pipe()
    parent = sampan.under_parent("exec", "--detach", "--process", str(process), "c1", stdout=writer)
    os.close(writer)
    read_until(reader, b"on\n")
    os.close(reader)
    os.kill(parent.pid, signal.SIGUSR1)  # passed on
    assert parent.wait() == "exit 9"
    missing = sampan.call("exec", "c1", "/no/such/program")
    assert (missing.returncode, b"/no/such/program" in missing.stderr) == (255, True)
    sampan.must("delete", "--force", "c1")


def test_a_killed_monitor_takes_everything_with_it(sampan: Runtime) -> None:
    """The fixture of every test sees that nothing is left."""
    bundle = sampan.bundle(make_spec("sleep", "1000"))
    parent = sampan.under_parent("create", "--bundle", str(bundle), "c1")
    sampan.must("start", "c1")
    vmm = find_pid("sampan-vmm")
    os.kill(parent.pid, signal.SIGKILL)
    assert parent.wait() == "signal 9"
    sampan.wait_status("c1", "stopped")
    sampan.must("delete", "c1")
    assert not Path(f"/proc/{vmm}").exists()


def test_a_killed_server_ends_container_and_monitor(sampan: Runtime) -> None:
    bundle = sampan.bundle(make_spec("sleep", "1000"))
    parent = sampan.under_parent("create", "--bundle", str(bundle), "c1")
    sampan.must("start", "c1")
    os.kill(find_pid("sampan-shim"), signal.SIGKILL)
    assert parent.wait() == "signal 9"
    assert sampan.state("c1")["status"] == "stopped"
    sampan.must("delete", "c1")


def test_a_terminal_is_sent_over_the_console_socket(sampan: Runtime) -> None:
    script = "stty size; read line; echo got $line; trap 'stty size' WINCH; read line; read line"
    bundle = sampan.bundle(make_spec("sh", "-c", script, terminal=True))
    path = sampan.top / "console"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        words = ("create", "--console-socket", str(path), "--bundle", str(bundle), "c1")
        parent = sampan.under_parent(*words)
        master = accept_master(listener)
    set_size(master, 33, 111)
    sampan.must("start", "c1")
    os.write(master, b"typed\n")
    read = read_until(master, b"got typed\r\n")
    assert b"typed\r\n" in read.partition(b"got")[0]  # echoed by the guest's terminal
    set_size(master, 44, 99)
    read = read_until(master, b"44 99\r\n")
    assert b"44 99\r\n" in read
    os.write(master, b"\n\n")
    read_until(master, b"nothing more")
    os.close(master)
    assert parent.wait() == "exit 0"
    sampan.must("delete", "c1")


def test_pause_update_events_and_list(sampan: Runtime) -> None:
    limits = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    bundle = sampan.bundle(make_spec("sleep", "1000", resources=limits))
    sampan.start(bundle)
    sampan.must("pause", "c1")
    assert sampan.state("c1")["status"] == "paused"
    assert sampan.call("exec", "c1", "true").returncode == 255
    sampan.must("resume", "c1")
    (event,) = sampan.must("events", "--stats", "c1").splitlines()
    data = json.loads(event)["data"]
    assert data["memory"]["usage"]["limit"] == 64 << 20
    assert data["pids"]["limit"] == 20
    sampan.must("update", "--memory", "48m", "--pids-limit", "30", "c1")
    data = json.loads(sampan.must("events", "--stats", "c1"))["data"]
    assert (data["memory"]["usage"]["limit"], data["pids"]["limit"]) == (48 << 20, 30)
    (listed,) = json.loads(sampan.must("list", "--format", "json"))
    assert (listed["id"], listed["status"]) == ("c1", "running")
    assert sampan.must("list").split()[6:9] == [b"c1", str(listed["pid"]).encode(), b"running"]
    sampan.must("kill", "--all", "c1", "KILL")
    sampan.wait_status("c1", "stopped")
    sampan.must("delete", "c1")


def test_the_network_is_that_of_the_path(sampan: Runtime) -> None:
    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("netns", "add", "oci-test")
    try:
        ip("link", "add", "oci-v0", "type", "veth", "peer", "name", "eth0", "netns", "oci-test")
        ip("addr", "add", "10.99.7.1/24", "dev", "oci-v0")
        ip("link", "set", "oci-v0", "up")
        ip("-n", "oci-test", "addr", "add", "10.99.7.2/24", "dev", "eth0")
        ip("-n", "oci-test", "link", "set", "eth0", "up")
        spec = make_spec("sleep", "1000")
        for namespace in spec["linux"]["namespaces"]:
            if namespace["type"] == "network":
                namespace["path"] = "/run/netns/oci-test"
        parent = sampan.under_parent("create", "--bundle", str(sampan.bundle(spec)), "c1")
        sampan.must("start", "c1")
        theirs = os.stat(f"/proc/{parent.pid}/ns/net")
        assert theirs.st_ino == os.stat("/run/netns/oci-test").st_ino
        assert b"10.99.7.2/24" in sampan.must("exec", "c1", "ip", "addr", "show", "eth0")
        sampan.must("exec", "c1", "ping", "-c", "1", "-W", "20", "10.99.7.1")
        sampan.must("delete", "--force", "c1")
        assert parent.wait() == "exit 137"
    finally:
        ip("netns", "del", "oci-test")


def test_it_works_without_a_warm_server_and_without_a_template(
    sampan: Runtime, configure: Configure
) -> None:
    """A state directory of its own has no warm server yet."""
    configure(templates="never")
    sampan.environment["SAMPAN_STATE_DIR"] = str(sampan.top / "run")
    bundle = sampan.bundle(make_spec("echo", "cold"))
    done = sampan.call("run", "--bundle", str(bundle), "c1")
    assert (done.returncode, done.stdout) == (0, b"cold\n"), done
    end_warm_server(sampan.top / "run/warm")


def end_warm_server(directory: Path) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not (sockets := list(directory.glob("*.sock"))):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.connect(str(sockets[0]))
        raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        os.kill(int.from_bytes(raw[:4], "little"), signal.SIGKILL)
