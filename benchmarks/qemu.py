"""`python3 -m benchmarks.qemu`: another monitor boots the same kernel, image and agent.

QEMU's microvm, with virtio over PCI, vhost-vsock and a virtiofsd for each share,
beside sampan's own monitor (cold): the time from the start of its process until the
agent has answered, and the memory of its processes then.  Prints Markdown.
"""

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.ctr import Runtime, running
from benchmarks.host import name_ground, read_processor
from benchmarks.measures import find_shared, read_idle
from benchmarks.memory import list_pids
from benchmarks.phases import measure_marks
from benchmarks.runtimes import make_sampan
from proto.contract import AGENT_PORT
from proto.control import MachineConfig
from shim.config import Config, load_config
from shim.guest.client import AgentClient
from shim.machine.boot import describe_machine
from shim.machine.console import read_console_tail
from shim.machine.directory import SandboxDirectory, SandboxKey
from shim.machine.request import LaunchRequest
from shim.machine.size import MachineSize
from shim.machine.templates.identity import MachineClass
from shim.vmm.builder import build_command_line
from tests.e2e.containerd import wait_for

IMAGE: Final = "localhost/sampan/busybox:1"
VIRTIOFSD: Final = "/usr/libexec/virtiofsd"
FIRMWARE: Final = "/usr/share/qemu/qboot.rom"
"""Enters the kernel directly; with ACPI, QEMU's default is SeaBIOS."""
GUEST_CID: Final = 77
TIMEOUT_S: Final = 300
POLL_S: Final = 0.02
CHUNK_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Sample:
    answer_s: float
    """From the start of the monitor's process to the agent's answer."""
    pss_mib: dict[str, float]
    """By the processes' names, once it does not change any more."""
    wakeups_s: float


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.qemu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args(arguments).rounds
    config = load_config()
    found: dict[str, list[Sample]] = {"QEMU microvm": [], "sampan, cold": []}
    with TemporaryDirectory() as directory:
        cold = make_sampan("sampan-cold", Path(directory), templates="never")
        for number in range(1, rounds + 1):
            print(f"round {number} of {rounds}", file=sys.stderr)
            found["QEMU microvm"].append(measure_qemu(config, Path(directory) / str(number)))
            found["sampan, cold"].append(measure_sampan(cold))
    print(render(found, name_ground(read_processor())), end="")
    return 0


def render(found: dict[str, list[Sample]], ground: str) -> str:
    lines = [
        f"| | process to agent's answer, s ({ground}) | PSS, MiB (count) | of these "
        "| wake-ups a second (count) |"
    ]
    lines.append("|---|---|---|---|---|")
    for name, samples in found.items():
        times = [sample.answer_s for sample in samples]
        spread = f"{median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        pss = median(sum(sample.pss_mib.values()) for sample in samples)
        parts = ", ".join(
            f"{comm} {size:.1f}" for comm, size in sorted(samples[-1].pss_mib.items())
        )
        wakeups = median(sample.wakeups_s for sample in samples)
        lines.append(f"| {name} | {spread} | {pss:.1f} | {parts} | {wakeups:.1f} |")
    return "\n".join(lines) + "\n"


# --- sampan --------------------------------------------------------------------


def measure_sampan(cold: Runtime) -> Sample:
    """Its memory includes a shim, a warm server and a sleeping container, which QEMU's does
    not."""
    marks = measure_marks(cold, IMAGE)
    before = list_pids()
    with running(cold, IMAGE, "sleep", "1000000"):
        idle = read_idle(before, shared=find_shared(cold))
        return Sample((marks["agent"] - marks["vmm"]) / 1e9, *idle)


# --- QEMU ----------------------------------------------------------------------


def measure_qemu(config: Config, directory: Path) -> Sample:
    before = list_pids()
    sandbox = SandboxDirectory(str(directory))
    sandbox.create(SandboxKey("bench", "bench", "qemu"))
    machine = describe(config, sandbox)
    sockets = {share.tag: directory / f"{share.tag}.sock" for share in machine.shares}
    with served(machine, sockets):
        began_s = time.monotonic()
        with started(make_command(machine, sockets, config.vmm_cpus)) as process:
            connection = connect_guest(process, machine.console_path)
            asyncio.run(ask_agent(connection, sandbox))
            return Sample(time.monotonic() - began_s, *read_idle(before))


def describe(config: Config, sandbox: SandboxDirectory) -> MachineConfig:
    """The machine that would be requested from sampan's own monitor."""
    size = MachineSize(config.vcpus, config.memory_mib << 20)
    machine_class = MachineClass(size, nics=0)
    return describe_machine(LaunchRequest(config, sandbox, machine_class, log_fd=2))


def make_command(
    machine: MachineConfig, sockets: dict[str, Path], cpus: tuple[int, ...]
) -> list[str]:
    """Runs on the host's processors `cpus`, if any are named."""
    pinned = ["taskset", "-c", ",".join(map(str, cpus))] if cpus else []
    bytes_text = f"{machine.memory_bytes}B"
    command = [
        *pinned,
        "qemu-system-x86_64",
        *("-M", "microvm,accel=kvm,pcie=on,acpi=on,x-option-roms=off,memory-backend=ram"),
        *("-bios", FIRMWARE, "-cpu", "host", "-smp", str(machine.vcpus), "-no-reboot"),
        *("-m", bytes_text, "-object", f"memory-backend-memfd,id=ram,size={bytes_text},share=on"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-serial", f"file:{machine.console_path}"),
        *("-kernel", machine.kernel_path, "-append", build_command_line(machine)),
        *("-device", f"vhost-vsock-pci,guest-cid={GUEST_CID}"),
    ]
    for number, (tag, path) in enumerate(sockets.items()):
        command += ["-chardev", f"socket,id=fs{number},path={path}"]
        command += ["-device", f"vhost-user-fs-pci,chardev=fs{number},tag={tag}"]
    return command


@contextmanager
def served(machine: MachineConfig, sockets: dict[str, Path]) -> Iterator[None]:
    servers = [
        subprocess.Popen(
            [
                VIRTIOFSD,
                f"--socket-path={sockets[share.tag]}",
                f"--shared-dir={share.path}",
                "--cache=always",
                "--sandbox=none",
                "--log-level=error",
            ]
        )
        for share in machine.shares
    ]
    try:
        for path in sockets.values():
            wait_for(path.exists, f"{path}: virtiofsd does not listen")
        yield
    finally:
        for server in servers:
            end(server)


@contextmanager
def started(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(TIMEOUT_S)


# --- the agent, as the shim asks it ---------------------------------------------


async def ask_agent(connection: socket.socket, sandbox: SandboxDirectory) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        guest = await asyncio.open_connection(sock=connection)

        async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.gather(pump(reader, guest[1]), pump(guest[0], writer))

        async with await asyncio.start_unix_server(join, sandbox.agent_socket):
            client = AgentClient(sandbox.agent_socket, sandbox.events_socket)
            await client.wait_info()
            await client.close()


def connect_guest(process: "subprocess.Popen[bytes]", console: str) -> socket.socket:
    """Returns once the agent listens: before that the guest's kernel refuses, or has
    not booted."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            connection.connect((GUEST_CID, AGENT_PORT))
        except OSError:
            connection.close()
            if process.poll() is not None or time.monotonic() > deadline:
                print(read_console_tail(console), file=sys.stderr)
                raise
            time.sleep(POLL_S)
        else:
            connection.setblocking(False)
            return connection


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(CHUNK_BYTES):
        sink.write(data)
        await sink.drain()
    sink.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
