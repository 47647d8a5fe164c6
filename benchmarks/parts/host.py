"""The host's part: whole calls of `ctr run --rm` by a containerd of our own.

runc and crun run `true`.  sampan's machine is a stub that resets itself at once (stub.py): so
everything happens that a start and an end have on the host, but for the end by the error's
way.  Owns containerd while it measures.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.parts.stub import make_image
from native.build import build_launcher
from shim.host.cgroup import is_unified
from tests.integration.agent_run import make_rootfs
from tests.integration.installed import Installed, wait_for

RUNC: Final = "io.containerd.runc.v2"
ENDED: Final = b"the microVM stopped"
"""Of the error with which a start under the stub ends."""


def measure_host(place: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds, in turns."""
    rootfs = make_rootfs(place / "host-rootfs")
    installed = install(place / "installed")
    runtimes = {
        "runc: `ctr run --rm` as a whole, ms": ("--runtime", RUNC),
        "crun, in runc's shim: the same, ms": ("--runtime", RUNC, "--runc-binary", "crun"),
        "sampan, a stub as kernel: the same, ms": ("--runtime", "io.containerd.sampan.v2"),
    }
    taken: dict[str, list[float]] = {name: [] for name in runtimes}
    with running_containerd(place / "containerd", installed) as address:
        for number in range(-2, rounds):  # the first two are not counted
            for name, words in runtimes.items():
                spent = time_run(address, words, rootfs, sampan="sampan" in name)
                if number >= 0:
                    taken[name].append(spent)
        if server := installed.server():
            os.kill(server, 15)
    return taken


def install(top: Path) -> Installed:
    top.mkdir()
    launcher = top / "launcher"
    build_launcher(launcher)
    made = Installed(top, launcher)
    config = {
        "image_dir": str(make_image(top / "image")),
        "templates": "never",
        "host_cgroup": "always" if is_unified() else "never",
    }
    (top / "config.yaml").write_text(json.dumps(config))
    made.environment["SAMPAN_CONFIG"] = str(top / "config.yaml")
    return made


@contextmanager
def running_containerd(place: Path, installed: Installed) -> Iterator[str]:
    """Its address."""
    place.mkdir()
    address = str(place / "containerd.sock")
    config = place / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
        f'[grpc]\naddress = "{address}"\n'
    )
    environment = {
        **os.environ,
        **installed.environment,
        "PATH": f"{installed.top}/bin:{os.environ['PATH']}",
    }
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["containerd", "--config", str(config)], env=environment, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: call(address, "version").returncode == 0)
        yield address
    finally:
        daemon.terminate()
        daemon.wait()
        shutil.rmtree(place, ignore_errors=True)


def call(address: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["ctr", "--address", address, *words], capture_output=True, check=False, timeout=60
    )


def time_run(address: str, runtime: tuple[str, ...], rootfs: Path, *, sampan: bool) -> float:
    """Milliseconds."""
    words = ("run", "--rm", *runtime, "--rootfs", str(rootfs), "parts", "/bin/true")
    begun = time.perf_counter()
    done = call(address, *words)
    spent = (time.perf_counter() - begun) * 1000
    if sampan:
        assert ENDED in done.stderr, done
        call(address, "container", "rm", "parts")
    else:
        assert done.returncode == 0, done
    return spent
