"""The warm server and the launcher: one server for each environment, never needed or outdated."""

import fcntl
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from shim.host.pids import is_alive, load_identity
from tests.integration.installed import DEADLINE_S, Installed, wait_for

pytestmark = pytest.mark.integration


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


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
    installed.start("c2")  # started without it; the last try is too recent for another
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
    wait_for(lambda: is_free(lock))  # a call that was just forked keeps it open for a moment
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
    (installed.code / "shim/version.py").write_text('VERSION = "99.0.0"\n')
    assert b"99.0.0" in installed.call("-v").stdout
    assert installed.count_direct() == direct + 1
    wait_for(lambda: not Path(f"/proc/{server}/exe").exists())
    assert not installed.sockets()


def test_one_that_hangs_holds_nobody_up_for_long(installed: Installed) -> None:
    """And when it continues, it does not serve the request a second time."""
    server = installed.warm_up()
    os.kill(server, signal.SIGSTOP)
    installed.start()
    identities = installed.sandbox_pids()
    os.kill(server, signal.SIGCONT)
    installed.call("-v")
    assert installed.sandbox_pids() == identities
    installed.delete()


def test_another_environment_has_another_one(installed: Installed) -> None:
    installed.warm_up()
    direct = installed.count_direct()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = (soft - 1, hard)
    done = installed.call("-v", before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
    assert done.returncode == 0
    assert installed.count_direct() == direct + 1


def test_a_server_has_nothing_of_its_caller(installed: Installed) -> None:
    """Each call has its own directory, environment and standard streams."""
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
