"""Who can talk to the warm server, to a shim, to a prewarmed process: root's processes that
can reach the socket; no process of another user, and no vmm.

What a vmm in its jail can reach: tests/integration/test_jail.py.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proto.control import CONTROL_FD
from shim.host.pids import load_identity
from tests.integration.installed import TREE, Installed, wait_for
from tests.integration.test_hostile_vmm import GOOD, Host
from tests.integration.test_prewarmed import catches

pytestmark = pytest.mark.integration
NOBODY = 65534
CALL = """\
import os, socket, sys
kind, directory, name = sys.argv[1:]
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
with socket.socket(socket.AF_UNIX, getattr(socket, kind)) as peer:
    peer.settimeout(20)
    try:
        peer.connect(f"/proc/self/fd/{directory}/{name}")
        peer.send(b"x" * 10)
        print("heard", peer.recv(1))
    except OSError as error:
        print(error.strerror)
"""
"""An open descriptor of a directory avoids the permissions of those above it."""
FORK = """\
import json, os, socket
from shim.config import Config
from shim.warm import fork
def tell():
    links = {}
    for number in os.listdir("/proc/self/fd"):
        try: links[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError: pass  # the one that lists them
    os.write(3, json.dumps(links).encode())
fork.run_vmm = tell
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
pool = socket.socketpair()
reader, writer = os.pipe()
child = fork.fork_vmm(Config(), theirs.fileno(), writer)
theirs.close()
print(ours.recv(1 << 16).decode())
assert os.waitpid(child, 0)[1] == 0
"""


def call_as_nobody(path: Path, kind: str) -> str:
    directory = os.open(path.parent, os.O_PATH)
    try:
        done = subprocess.run(
            [sys.executable, "-c", CALL, kind, str(directory), path.name],
            pass_fds=[directory],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(directory)
    return done.stdout.strip()


def open_up(path: Path) -> None:
    """Makes the directories accessible, as an administrator may by mistake."""
    path.parent.chmod(0o777)
    path.chmod(0o777)


@pytest.fixture
def host(installed: Installed) -> Iterator[Host]:
    made = Host(installed)
    yield made
    made.close()


def test_another_user_cannot_reach_the_warm_server_and_is_not_heard(installed: Installed) -> None:
    server = installed.warm_up()
    (path,) = installed.sockets()
    assert call_as_nobody(path, "SOCK_SEQPACKET") == "Permission denied"
    open_up(path)
    assert call_as_nobody(path, "SOCK_SEQPACKET") in ("heard b''", "Connection reset by peer")
    direct = installed.count_direct()
    assert installed.call("-v").returncode == 0
    assert (installed.server(), installed.count_direct()) == (server, direct)


def test_another_user_cannot_reach_a_sandbox_and_is_not_heard(host: Host) -> None:
    vmm = host.start("c1", GOOD)
    (sandbox,) = host.sandboxes()
    for name in ("shim.sock", "agent.sock"):
        assert call_as_nobody(sandbox / name, "SOCK_STREAM") == "Permission denied"
    open_up(sandbox / "shim.sock")
    heard = call_as_nobody(sandbox / "shim.sock", "SOCK_STREAM")
    assert heard in ("heard b''", "Connection reset by peer", "Broken pipe")
    assert load_identity(str(sandbox / "vmm.pid")) == vmm
    host.installed.delete("c1")


def test_nothing_of_ours_has_an_address_without_a_path(host: Host) -> None:
    """Abstract addresses are open to all of a network namespace, the vmm included."""
    host.start("c1", GOOD)
    wait_for(host.installed.server)
    (sandbox,) = host.sandboxes()
    shim = load_identity(str(sandbox / "shim.pid"))
    assert shim is not None
    ours = {inode for pid in (shim.pid, host.installed.server()) for inode in list_sockets(pid)}
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    named = [words[7] for words in lines if words[6] in ours and len(words) > 7]
    assert {Path(name).suffix for name in named} == {".sock"}, named
    host.installed.delete("c1")


def list_sockets(pid: int) -> list[str]:
    links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return [found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)\]", link))]


def test_a_vmm_starts_with_nothing_but_its_own(host: Host) -> None:
    """It inherits nothing of the warm server, of containerd or of other sandboxes."""
    host.installed.warm_up()
    wait = "signal.signal(signal.SIGUSR2, lambda *_: 0)\nsignal.pause()\n"
    vmm = host.start("c1", wait + GOOD)
    wait_for(lambda: catches(vmm.pid, signal.SIGUSR2))  # Python itself has started
    directory = Path(f"/proc/{vmm.pid}/fd")
    check_descriptors({entry.name: os.readlink(entry) for entry in directory.iterdir()})
    host.installed.delete("c1")


def test_a_vmm_that_is_forked_starts_with_nothing_but_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], cwd=TREE, capture_output=True, text=True, check=True
    )
    check_descriptors(json.loads(done.stdout))


def check_descriptors(links: dict[str, str]) -> None:
    kinds = {number: link.partition(":")[0] for number, link in links.items()}
    null = "/dev/null"
    assert kinds == {"0": null, "1": null, "2": "pipe", str(CONTROL_FD): "socket"}
