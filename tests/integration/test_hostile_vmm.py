"""A vmm that has been taken over: its container ends with one line in the log, the shim
goes on, and the next container starts as usual.

Shim and launcher are the real ones; the vmm is a script in its place.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.host.pids import ProcessIdentity, is_alive, load_identity
from tests.fakes.script import CONTROL
from tests.integration.installed import Installed, wait_for

pytestmark = pytest.mark.integration
GOOD = """\
request, _ = receive()
send(id=request["id"], result={"cloned": False, "timings_us": {}})
while True: send(id=receive()[0]["id"], result={})
"""
BOOTED = """\
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
request, fds = receive()
send(id=request["id"], result={"cloned": False, "timings_us": {}})
"""
DEAF = "while True: time.sleep(100)\n"
FLOOD = "try:\n    while True: control.send(packet)\nexcept OSError: pass\n" + DEAF
STDERR = "os.set_blocking(2, True)\nfor n in range({count}): os.write(2, b'{said}\\n')\n"


class Host:
    """An installation whose next vmm is a script, and its log."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        self.script = installed.top / "vmm.py"
        (installed.top / "image/root").mkdir(parents=True)
        (installed.top / "image/vmlinux").touch()
        config = {
            "image_dir": str(installed.top / "image"),
            "templates": "never",
            "vmm_command": [sys.executable, str(self.script)],
        }
        path = installed.top / "config.yaml"
        path.write_text(json.dumps(config))
        installed.environment["SAMPAN_CONFIG"] = str(path)
        self._log = os.open(installed.bundle / "log", os.O_RDONLY | os.O_NONBLOCK)
        self._logged = b""

    def start(self, name: str, script: str) -> ProcessIdentity:
        """Starts a container, and returns its vmm."""
        self.script.write_text(CONTROL + script)
        self.installed.start(name)
        (sandbox,) = self.sandboxes()
        wait_for(lambda: load_identity(str(sandbox / "vmm.pid")))  # there, and complete
        vmm = load_identity(str(sandbox / "vmm.pid"))
        assert vmm is not None
        return vmm

    def sandboxes(self) -> list[Path]:
        return [path.parent for path in (self.installed.top / "run").glob("*/sandbox.json")]

    def logged(self) -> list[str]:
        """The lines that are complete."""
        try:
            while data := os.read(self._log, 1 << 16):
                self._logged += data
        except BlockingIOError:
            pass
        return self._logged.decode().split("\n")[:-1]

    def count_logged(self, text: str) -> int:
        return sum(text in line for line in self.logged())

    def close(self) -> None:
        os.close(self._log)


@pytest.fixture
def host(installed: Installed) -> Iterator[Host]:
    made = Host(installed)
    yield made
    made.close()


def check_the_next_one_works(host: Host) -> None:
    vmm = host.start("next", GOOD)
    assert is_alive(vmm)
    host.installed.delete("next")
    wait_for(lambda: not host.sandboxes() and not is_alive(vmm))


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("packet = b'nonsense'\n" + FLOOD, "no JSON: b'nonsense'"),
        ("packet = b'[' * 65536\n" + FLOOD, "no JSON: b'[["),
        ('packet = b\'{"id": 1, "result": {}}\'\n' + FLOOD, "an answer to request 1"),
        ("socket.send_fds(control, [b'{}'], [0, 1, 2] * 60)\n" + DEAF, "descriptors"),
        (
            "args = {'stream': 1, 'bytes_moved': 1, 'error': 0}\n"
            "send(event='stream_closed', args=args)\n" + DEAF,
            "the end of stream 1",
        ),
    ],
)
def test_one_that_breaks_the_protocol_is_killed_with_one_line(
    host: Host, script: str, told: str
) -> None:
    vmm = host.start("c1", BOOTED + script)
    wait_for(lambda: not is_alive(vmm))
    wait_for(lambda: host.count_logged("broke the protocol of its control socket"))
    assert [told in line for line in host.logged()] == [True], host.logged()
    shim = load_identity(str(host.sandboxes()[0] / "shim.pid"))
    assert shim is not None
    assert is_alive(shim)
    host.installed.delete("c1")
    wait_for(lambda: not host.sandboxes())
    check_the_next_one_works(host)


def test_what_one_says_before_it_dies_is_in_the_log(host: Host) -> None:
    """Also if it dies at once, before the shim has an event loop."""
    script = "os.write(2, b'cannot \\x1b[2J start\\n'); sys.exit(3)"
    host.start("c1", script)
    wait_for(lambda: host.count_logged("ended with status 3"))
    wait_for(lambda: host.count_logged('level=warning msg="cannot  [2J start"'))
    host.installed.delete("c1")
    check_the_next_one_works(host)


def test_one_cannot_fill_the_log_or_read_it(host: Host) -> None:
    vmm = host.start("c1", BOOTED + STDERR.format(count=1_000_000, said="flood") + DEAF)
    wait_for(lambda: host.count_logged("dropped"))
    stderr = os.stat(f"/proc/{vmm.pid}/fd/2")
    log = os.stat(host.installed.bundle / "log")
    assert (stderr.st_dev, stderr.st_ino) != (log.st_dev, log.st_ino)
    time.sleep(1)
    assert host.count_logged("flood") < 80
    assert all(re.match(r'time="[^"]*" level=warning msg="', line) for line in host.logged())
    host.installed.delete("c1")
    wait_for(lambda: not host.sandboxes() and not is_alive(vmm))
    assert host.count_logged("flood") < 120
    check_the_next_one_works(host)


def test_one_that_does_nothing_at_all_ends_with_its_sandbox(host: Host) -> None:
    vmm = host.start(
        "c1", "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n" + DEAF
    )
    host.installed.delete("c1")
    wait_for(lambda: not host.sandboxes() and not is_alive(vmm))
    check_the_next_one_works(host)
