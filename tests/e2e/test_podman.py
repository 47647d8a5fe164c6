"""podman with `--runtime sampan`: the thin path of each call that people use first.

Needs podman in the host, beside conmon, netavark and its library files.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci_client import TIMEOUT_S, make_root

NETWORK = ("--network", "none")
LOGS = ("--log-driver", "k8s-file")
MISSING = "no podman in this host"
pytestmark = [
    pytest.mark.skipif(
        shutil.which("podman") is None and os.environ.get("REQUIRE_PODMAN") != "1", reason=MISSING
    )
]
IMAGE = "localhost/sampan/podman-busybox"


class Podman:
    def __init__(self, directory: Path) -> None:
        program = shutil.which("sampan")
        assert program is not None
        self._words = [
            "podman",
            *("--root", str(directory / "root"), "--runroot", str(directory / "runroot")),
            *("--tmpdir", str(directory / "tmp"), "--cgroup-manager", "cgroupfs"),
            *("--events-backend", "none", "--storage-driver", "overlay", "--runtime", program),
        ]

    def call(self, *words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*self._words, *words],
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def must(self, *words: str, stdin: bytes = b"") -> bytes:
        done = self.call(*words, stdin=stdin)
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    top = tmp_path_factory.mktemp("podman")
    root = make_root(top / "image")
    archive = top / "image.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    client = Podman(top)
    client.must("import", "-q", str(archive), IMAGE)
    yield client
    client.call("rm", "--all", "--force", "--time", "0")
    client.call("system", "reset", "--force")


def test_run_has_output_input_status_and_another_kernel(podman: Podman) -> None:
    words = ("run", "--rm", "-i", *NETWORK, IMAGE)
    done = podman.call(*words, "sh", "-c", "cat; echo oops >&2; exit 7", stdin=b"in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"in\n", b"oops\n")
    boot_id = podman.must(*words, "cat", "/proc/sys/kernel/random/boot_id")
    assert boot_id != Path("/proc/sys/kernel/random/boot_id").read_bytes()


def test_a_missing_program_is_127(podman: Podman) -> None:
    done = podman.call("run", "--rm", *NETWORK, IMAGE, "/no/such")
    assert (done.returncode, b"/no/such" in done.stderr) == (127, True)


def test_a_container_is_executed_in_stopped_and_removed(podman: Podman) -> None:
    loop = "trap 'echo term; exit 3' TERM; echo begun; while :; do sleep 0.1; done"
    podman.must("run", "-d", *LOGS, "--name", "one", *NETWORK, IMAGE, "sh", "-c", loop)
    assert podman.must("exec", "one", "echo", "from exec") == b"from exec\n"
    assert podman.call("exec", "one", "sh", "-c", "exit 9").returncode == 9
    shown = podman.must("ps", "--format", "{{.Names}} {{.State}}")
    assert shown == b"one running\n"
    podman.must("stop", "--time", "60", "one")
    assert podman.must("wait", "one") == b"3\n"
    assert podman.must("logs", "one") == b"begun\nterm\n"
    podman.must("rm", "one")


def test_the_bridge_network_reaches_the_container(podman: Podman) -> None:
    words = ("run", "-d", *LOGS, "--name", "net", "--cap-add", "NET_RAW", IMAGE)
    podman.must(*words, "sleep", "1000")
    try:
        check_bridge(podman)
    finally:
        podman.must("rm", "-f", "--time", "0", "net")


def check_bridge(podman: Podman) -> None:
    shown = podman.must("exec", "net", "ip", "addr", "show", "eth0")
    assert b"inet 10.88." in shown
    address = podman.must("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "net")
    assert address.strip() in shown
    podman.must("exec", "net", "ping", "-c", "1", "-W", "20", "10.88.0.1")
