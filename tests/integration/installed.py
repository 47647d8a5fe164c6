"""The launcher and the programs beside it, installed in a directory, and the files that
they leave.

The launcher is compiled and run as containerd would; `sampan-shim` and
`sampan-warm` are scripts beside it that run a copy of the tree's code.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from shim.host.peer import PEER_CREDENTIALS

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
        self.environment = {"SAMPAN_STATE_DIR": str(top / "run")}
        for name in ("shim", "proto", "native"):
            shutil.copytree(TREE / name, self.code / name, ignore=shutil.ignore_patterns("src"))
        (top / "bin").mkdir()
        for name in (LAUNCHER, "sampan"):
            shutil.copy2(launcher, top / "bin" / name)
        self.write_script("sampan-shim", f"echo >>{self.direct_calls}", "shim.containerd.start")
        self.write_script("sampan-warm", "", "shim.warm.server")
        self.write_script("sampan-oci", f"echo >>{self.direct_calls}", "shim.warm.direct")
        self.write_script("sampan-command", "", "shim")
        self.make_bundle(self.bundle)

    def write_script(self, name: str, first: str, module: str) -> None:
        script = self.top / "bin" / name
        run = f'PYTHONPATH={self.code} exec {sys.executable} -P -s -m {module} "$@"'
        script.write_text(f"#!/bin/sh\n{first}\n{run}\n")
        script.chmod(0o755)

    def make_bundle(self, directory: Path) -> Path:
        directory.mkdir()
        os.mkfifo(directory / "log")
        (directory / "config.json").write_text(json.dumps(SPEC))
        return directory

    def call(
        self,
        *arguments: str,
        before: Callable[[], None] | None = None,
        bundle: Path | None = None,
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [self.top / "bin" / LAUNCHER, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=bundle or self.bundle,
            env={"PATH": os.environ["PATH"], **self.environment},
            preexec_fn=before,
            timeout=60,
            check=False,
        )

    def start(self, name: str = "c1", bundle: Path | None = None) -> None:
        done = self.act(name, "start", bundle)
        assert done.returncode == 0, done
        assert done.stdout.startswith(b"unix://"), done

    def delete(self, name: str = "c1") -> None:
        assert self.act(name, "delete").returncode == 0

    def act(
        self, name: str, action: str, bundle: Path | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        arguments = ("-namespace", "n", "-id", name, "-address", "/c", action)
        return self.call(*arguments, bundle=bundle)

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
        """Starts it by a first container, which does not use it yet."""
        self.start()
        self.delete()
        wait_for(self.server)
        return self.server()

    def sandbox_pids(self) -> list[Path]:
        return sorted((self.top / "run").glob("*/shim.pid"))
