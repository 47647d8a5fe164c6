"""The warm server and the launcher: one for a world, never needed, never outdated.

The launcher is compiled and run as containerd would; `sampan-shim` and
`sampan-warm` are scripts beside it that run a copy of the tree's code.
"""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from native.build import build_launcher
from shim.host.peer import PEER_CREDENTIALS
from shim.host.process import is_alive, load_identity

pytestmark = pytest.mark.integration
TREE = Path(__file__).resolve().parents[2]
LAUNCHER = "containerd-shim-sampan-v2"
SPEC = {
    "ociVersion": "1.0.2",
    "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
}
DEADLINE_S = 20


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Installed:
    """A directory of programs, a copy of the code, a state directory, a bundle."""

    def __init__(self, top: Path, launcher: Path) -> None:
        self.top = top
        self.code = top / "code"
        self.bundle = top / "bundle"
        self.warm_dir = top / "run/warm"
        self.direct_calls = top / "direct"
        for name in ("shim", "proto", "native"):
            shutil.copytree(TREE / name, self.code / name, ignore=shutil.ignore_patterns("src"))
        (top / "bin").mkdir()
        shutil.copy2(launcher, top / "bin" / LAUNCHER)
        self.write_script("sampan-shim", f"echo >>{self.direct_calls}", "shim.bootstrap")
        self.write_script("sampan-warm", "", "shim.warm.server")
        self.bundle.mkdir()
        os.mkfifo(self.bundle / "log")
        (self.bundle / "config.json").write_text(json.dumps(SPEC))

    def write_script(self, name: str, first: str, module: str) -> None:
        script = self.top / "bin" / name
        run = f'PYTHONPATH={self.code} exec {sys.executable} -P -s -m {module} "$@"'
        script.write_text(f"#!/bin/sh\n{first}\n{run}\n")
        script.chmod(0o755)

    def call(
        self, *arguments: str, before: Callable[[], None] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [self.top / "bin" / LAUNCHER, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.bundle,
            env={"PATH": os.environ["PATH"], "SAMPAN_STATE_DIR": str(self.top / "run")},
            preexec_fn=before,
            timeout=60,
            check=False,
        )

    def start(self, name: str = "c1") -> None:
        done = self.act(name, "start")
        assert done.returncode == 0, done
        assert done.stdout.startswith(b"unix://"), done

    def delete(self, name: str = "c1") -> None:
        assert self.act(name, "delete").returncode == 0

    def act(self, name: str, action: str) -> "subprocess.CompletedProcess[bytes]":
        return self.call("-namespace", "n", "-id", name, "-address", "/c", action)

    def count_direct(self) -> int:
        return self.direct_calls.read_text().count("\n") if self.direct_calls.exists() else 0

    def sockets(self) -> list[Path]:
        return sorted(self.warm_dir.glob("*.sock"))

    def server(self) -> int:
        """The one warm server's pid; 0 when none answers."""
        for path in self.sockets():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
                if probe.connect_ex(str(path)) == 0:
                    size = PEER_CREDENTIALS.size
                    raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
                    return int(PEER_CREDENTIALS.unpack(raw)[0])
        return 0

    def warm_up(self) -> int:
        """Started by a first container, which is without it."""
        self.start()
        self.delete()
        wait_for(self.server)
        return self.server()

    def sandbox_pids(self) -> list[Path]:
        return sorted((self.top / "run").glob("*/shim.pid"))


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("launcher") / LAUNCHER
    build_launcher(target)
    return target


@pytest.fixture
def installed(tmp_path: Path, launcher: Path) -> Iterator[Installed]:
    made = Installed(tmp_path, launcher)
    yield made
    if server := made.server():
        os.kill(server, signal.SIGKILL)


def test_the_first_container_starts_it_and_later_calls_are_its(installed: Installed) -> None:
    installed.warm_up()
    direct = installed.count_direct()
    assert direct >= 1
    done = installed.call("-v")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Version" in done.stdout
    installed.start()
    installed.delete()
    assert installed.count_direct() == direct


def test_what_is_only_asked_starts_none(installed: Installed) -> None:
    assert installed.call("-v").returncode == 0
    assert not installed.warm_dir.exists()


def test_a_failure_has_its_text_and_its_status(installed: Installed) -> None:
    installed.warm_up()
    done = installed.act("../x", "start")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"-id: expected a name" in done.stderr
    assert installed.call("-frobnicate").returncode == 1


def test_a_sandbox_outlives_it_and_holds_nothing_of_it(installed: Installed) -> None:
    server = installed.warm_up()
    installed.start()
    (pid_file,) = installed.sandbox_pids()
    identity = load_identity(str(pid_file))
    assert identity is not None
    os.kill(server, signal.SIGKILL)
    installed.start("c2")  # without it, and another try has been made a moment ago
    assert is_alive(identity)
    held = {os.readlink(entry) for entry in Path(f"/proc/{identity.pid}/fd").iterdir()}
    assert not any("/warm/" in target for target in held), held
    for name in ("c1", "c2"):
        installed.delete(name)
    wait_for(lambda: not is_alive(identity))
    assert not installed.sandbox_pids()


def test_one_that_was_killed_is_followed_by_another(installed: Installed) -> None:
    old = installed.warm_up()
    os.kill(old, signal.SIGKILL)
    (lock,) = installed.warm_dir.glob("*.lock")
    os.utime(lock, (1, 1))  # the last try is long ago
    assert installed.warm_up() != old


def test_tries_that_fail_are_not_made_at_once_again(installed: Installed) -> None:
    tries = installed.top / "tries"
    installed.write_script("sampan-warm", f"echo >>{tries}; exit 1", "none")
    for _ in range(3):
        installed.start()
        installed.delete()
    assert tries.read_text().count("\n") == 1


def test_code_that_has_changed_is_not_served_by_the_old(installed: Installed) -> None:
    server = installed.warm_up()
    direct = installed.count_direct()
    bootstrap = installed.code / "shim/bootstrap.py"
    bootstrap.write_text(bootstrap.read_text().replace('"0.1.0"', '"0.2.0"'))
    assert b"0.2.0" in installed.call("-v").stdout
    assert installed.count_direct() == direct + 1
    wait_for(lambda: not Path(f"/proc/{server}/exe").exists())
    assert not installed.sockets()


def test_one_that_hangs_holds_nobody_up_for_long(installed: Installed) -> None:
    """And what it was asked for is not done again when it goes on."""
    server = installed.warm_up()
    os.kill(server, signal.SIGSTOP)
    installed.start()
    identities = installed.sandbox_pids()
    os.kill(server, signal.SIGCONT)
    installed.call("-v")
    assert installed.sandbox_pids() == identities
    installed.delete()


def test_another_world_has_another_one(installed: Installed) -> None:
    installed.warm_up()
    direct = installed.count_direct()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = (soft - 1, hard)
    done = installed.call("-v", before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
    assert done.returncode == 0
    assert installed.count_direct() == direct + 1


def test_a_server_is_the_worlds_and_not_the_callers(installed: Installed) -> None:
    """Directory, environment and standard streams are those of each call."""
    installed.warm_up()
    installed.start()
    (pid_file,) = installed.sandbox_pids()
    identity = load_identity(str(pid_file))
    assert identity is not None
    assert os.readlink(f"/proc/{identity.pid}/cwd") == str(installed.bundle)
    assert os.readlink(f"/proc/{identity.pid}/fd/2") == str(installed.bundle / "log")
    installed.delete()


def test_a_peer_that_sends_nonsense_concerns_nobody_else(installed: Installed) -> None:
    server = installed.warm_up()
    (path,) = installed.sockets()
    for data in (b"", b"nonsense", b"1\0" * 90_000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(str(path))
            peer.settimeout(DEADLINE_S)
            assert peer.recv(1) == b"r"
            if data:
                peer.send(data)
            else:
                peer.shutdown(socket.SHUT_WR)
            assert peer.recv(1) == b""
    direct = installed.count_direct()
    assert installed.call("-v").returncode == 0
    assert (installed.server(), installed.count_direct()) == (server, direct)
