"""Builds and runs tests/native/tap_net.c: the net device with a tap of the kernel."""

import subprocess
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
SOURCES = TREE / "native/src"
OTHERS = (
    "virtio/virtqueue.c",
    "memory/memory.c",
    "memory/iovec.c",
    "virtio/sources.c",
    "virtio/worker.c",
    "jail/jail.c",
)
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-pthread")


def run_tap_net(directory: Path, mode: str, pairs: int) -> None:
    """Every case, in a network namespace of its own; root."""
    program = directory / "tap_net"
    sources = [*SOURCES.glob("net/*.c"), *(SOURCES / name for name in OTHERS)]
    command = ["gcc", *FLAGS, f"-DDRIVER_PAIRS={pairs}", f"-I{SOURCES}"]
    command += [str(TREE / "tests/native/tap_net.c"), *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([program, mode], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"after {done.stdout.splitlines()[-1:]}: {done.stderr}"
    assert f"{mode} test_random_chains_crash_nothing" in done.stdout
