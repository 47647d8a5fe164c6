"""Calls `sampan`, or another OCI runtime, as podman and conmon do.

Every call is a process with its output taken.  A bundle is a directory with busybox.
"""

import array
import fcntl
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

from shim.host.fds import receive_fds

SUBREAPER = Path(__file__).with_name("subreaper.py")
TIMEOUT_S = 280  # an emulated host is 20 to 30 times slower than a real one
APPLETS = (
    "sh cat echo sleep ls id stty true false kill ps test mkdir rm tail ip hostname wc head ping"
).split()
CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID"]
MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
    },
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
]


def make_root(directory: Path) -> Path:
    """A root file system: busybox, which has to be a static program, and its names."""
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
        (directory / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, directory / "bin/busybox")
    for name in APPLETS:
        (directory / "bin" / name).symlink_to("busybox")
    return directory


def make_spec(*words: str, terminal: bool = False, **linux: Any) -> dict[str, Any]:
    namespaces = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "args": list(words),
            "cwd": "/",
            "env": ["PATH=/bin", "TERM=xterm"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        },
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "mounts": MOUNTS,
        "linux": {"namespaces": namespaces, **linux},
    }


@dataclass
class Parent:
    """A subreaper and the container or exec that it waits for."""

    process: "subprocess.Popen[bytes]"
    report: BinaryIO
    pid_file: Path

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def wait(self) -> str:
        """`exit N` or `signal N`."""
        line = self.report.readline().decode().strip()
        self.report.close()
        self.process.wait(TIMEOUT_S)
        return line


@dataclass
class Runtime:
    program: str
    top: Path
    """A directory of the test's."""
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.call("list", "-q").stdout.decode().split():
            self.call("delete", "--force", name)

    @property
    def root(self) -> Path:
        return self.top / "state"

    def bundle(self, spec: dict[str, Any], name: str = "bundle") -> Path:
        directory = self.top / name
        if not directory.exists():
            directory.mkdir()
            make_root(directory / "rootfs")
        (directory / "config.json").write_text(json.dumps(spec))
        return directory

    def words(self, *words: str) -> list[str]:
        return [self.program, "--root", str(self.root), *words]

    def call(
        self, *words: str, stdin: bytes | None = None, **options: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            self.words(*words),
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            env={**os.environ, **self.environment},
            **given,
            **options,
        )

    def must(self, *words: str, **options: Any) -> bytes:
        done = self.call(*words, **options)
        assert done.returncode == 0, done
        return done.stdout

    def start(self, bundle: Path, name: str = "c1") -> None:
        """`run --detach`: its streams are the container's, so nothing is taken of them."""
        subprocess.run(
            self.words("run", "--detach", "--bundle", str(bundle), name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=True,
            env={**os.environ, **self.environment},
        )

    def state(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.must("state", name))
        return state

    def wait_status(self, name: str, wanted: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while (found := self.state(name)["status"]) != wanted:
            assert time.monotonic() < deadline, f"{name} is {found!r}, never {wanted!r}"
            time.sleep(0.05)

    def under_parent(
        self,
        verb: str,
        *words: str,
        stdin: Any = subprocess.DEVNULL,
        stdout: Any = subprocess.DEVNULL,
        stderr: Any = subprocess.DEVNULL,
    ) -> Parent:
        """`verb --pid-file F …` below a subreaper, once the call has ended with 0."""
        pid_file = self.top / f"{verb}-{time.monotonic_ns()}.pid"
        reader, writer = os.pipe()
        command = [sys.executable, str(SUBREAPER), str(writer), str(pid_file)]
        try:
            process = subprocess.Popen(
                [*command, *self.words(verb, "--pid-file", str(pid_file), *words)],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[writer],
                env={**os.environ, **self.environment},
            )
        finally:
            os.close(writer)
        parent = Parent(process, os.fdopen(reader, "rb"), pid_file)
        assert parent.report.readline() == b"0\n"
        return parent


def accept_master(listener: socket.socket) -> int:
    """The terminal that a runtime sends to a console socket; the caller's."""
    connection, _ = listener.accept()
    with connection:
        _, fds, _ = receive_fds(connection, 4096, 1)
    (master,) = fds
    return master


def read_until(descriptor: int, wanted: bytes) -> bytes:
    """Until `wanted` has come, or the end, or nothing comes for long."""
    read = b""
    while wanted not in read and select.select([descriptor], [], [], TIMEOUT_S / 10)[0]:
        try:
            data = os.read(descriptor, 4096)
        except OSError:  # a terminal that nobody has any more
            data = b""
        if not data:
            break
        read += data
    return read


def set_size(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, array.array("H", (rows, columns, 0, 0)))
