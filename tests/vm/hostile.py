"""A machine in its jail whose guest attacks it: tests/vm/hostile_guest, and its host's side.

The vmm is started as the shim starts it: same jail, shares, network namespace.  While the
guest attacks, the host sends it packets, dials its ports and opens streams, as it would
for containers.
"""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from proto.contract import STREAM_TOKEN_BYTES
from proto.control import count_pairs
from shim.config import Config
from shim.host.fds import close_all
from shim.host.mounts import HostMount
from shim.host.netns import entered, make_namespace
from shim.host.vhost import open_vhost_net
from shim.machine.directory import SandboxDirectory, SandboxKey
from shim.machine.files import ContainerFiles
from shim.machine.launch import LaunchedMachine, launch_machine
from shim.machine.namespace import PreparedNetwork
from shim.machine.request import LaunchRequest
from shim.machine.size import MIB, MachineSize
from shim.machine.templates.identity import MachineClass
from shim.net.netlink import apply
from shim.net.plan import MakeTap
from shim.oci.mounts import Volume
from tests.capabilities import is_emulated
from tests.vm.machine import DEADLINE_S, Refused, VmmProcess

SOURCES = Path(__file__).with_name("hostile_guest")
COMPILE = """
-O1 -Wall -Wextra -Werror -ffreestanding -fno-builtin -fno-strict-aliasing -fno-pic -no-pie
-mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none -nostdlib -static
-Wl,-Ttext-segment=0x200000,--build-id=none,-z,noexecstack
""".split()
SIZE = MachineSize(vcpus=2, memory_bytes=128 * MIB)
"""As machine.h has it."""
FRAME = b"\xff" * 6 + b"\x02" * 6 + b"\x08\x00" + bytes(range(256)) * 4
ETH_P_ALL = 3
SOL_PACKET = 263  # linux/socket.h
PACKET_IGNORE_OUTGOING = 23  # linux/if_packet.h
MOST_CONNECTIONS = 16
ENDLESS = 1 << 60
TAP = "tap0"


class Ended(NamedTuple):
    reason: str
    detail: str
    status: int
    """The vmm's, as of waitstatus_to_exitcode."""
    counters: dict[str, Any]
    said: list[str]
    """The lines that the vmm has written to its log."""
    frames: int
    stream_bytes: int
    """What the guest has sent, and its host has seen."""


def build_guest(directory: Path) -> Path:
    target = directory / "hostile_guest"
    sources = sorted((*SOURCES.glob("*.c"), *SOURCES.glob("*.S")))
    subprocess.run(["gcc", *COMPILE, "-o", target, *sources], check=True)
    return target


def make_files(directory: Path) -> Path:
    """What the names in requests.c find."""
    for name in ("d", "sbin", "f"):
        (directory / name).mkdir(parents=True)
    for name in ("a", "d/a", "f/g"):
        (directory / name).write_bytes(bytes(range(256)) * 40)
    (directory / "l").symlink_to("../../../etc/passwd")
    return directory


class Child:
    """A process that was not started by subprocess, with as much of Popen as VmmProcess uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self, timeout: float = DEADLINE_S) -> int:
        deadline = time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            else:
                time.sleep(0.01)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, 9)


class LaunchedVmm(VmmProcess):
    def __init__(self, launched: LaunchedMachine) -> None:
        self.socket = launched.control
        self.socket.settimeout(DEADLINE_S)
        self.events = []
        self.last_id = 1
        self.process = Child(launched.pid)  # type: ignore[assignment]

    def wait_booted(self) -> None:
        answer = self.receive_until(lambda packet: packet.get("id") == 1)
        if "error" in answer:
            raise Refused(answer["error"])

    def poll_event(self, timeout_s: float) -> bool:
        """Whether there is a packet to read."""
        self.socket.settimeout(timeout_s)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(DEADLINE_S)


class HostSide:
    """Packets, connections and streams for the guest, as many as it takes."""

    def __init__(self, vmm: LaunchedVmm, agent_socket: str, wire: socket.socket) -> None:
        self.vmm = vmm
        self.agent_socket = agent_socket
        self.wire = wire
        self.connections: list[socket.socket] = []
        self.streams = 0
        self.frames = 0
        self.stream_bytes = 0

    def act(self) -> None:
        for _ in range(8):
            with contextlib.suppress(OSError):
                self.wire.send(FRAME)
                self.frames += bool(self.wire.recv(65536))
        if len(self.connections) < MOST_CONNECTIONS:
            self.dial()
        self.connections = [c for c in self.connections if self.converse(c)]

    def converse(self, connection: socket.socket) -> bool:
        """False: it has ended, as each does when its device is reset."""
        try:
            with contextlib.suppress(BlockingIOError):
                connection.send(FRAME)
            received = connection.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            received = b""
        self.stream_bytes += len(received)
        if not received:
            connection.close()
        return bool(received)

    def dial(self) -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        self.connections.append(connection)
        with contextlib.suppress(OSError):
            connection.connect(self.agent_socket)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.connections.append(ours)
        self.streams += 1
        token = secrets.token_hex(STREAM_TOKEN_BYTES)
        direction = ("to_guest", "from_guest")[self.streams % 2]
        arguments = {"stream": self.streams, "token": token, "direction": direction}
        with theirs, contextlib.suppress(Refused):
            self.vmm.request("open_stream", arguments, [theirs.fileno()])

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


class Attack:
    """One machine, from its start until nothing of it is left."""

    def __init__(
        self, directory: Path, kernel: Path, seed: int, steps: int = ENDLESS, end: int = 0
    ) -> None:
        """`end`: see end_machine in machine.h."""
        self.directory = directory
        self.log = directory / "log"
        image = directory / "image"
        make_files(image / "root")
        self.config = Config(
            image_dir=str(image),
            kernel=str(kernel),
            kernel_arguments=f"fuzz.seed={seed} fuzz.steps={steps} fuzz.end={end}",
            vmm_cpus=(1,) if is_emulated() else (),
        )
        self.sandbox = SandboxDirectory(str(directory / "sandbox"))

    def run(self, seconds: float) -> Ended:
        """The guest attacks for `seconds`, or until the machine ends."""
        with ExitStack() as stack:
            self.sandbox.create(SandboxKey("c", "n", "s"))
            stack.callback(self.sandbox.remove)
            namespace = make_namespace()
            stack.callback(os.close, namespace)
            log_fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            stack.callback(os.close, log_fd)
            pairs = count_pairs(SIZE.vcpus)
            network = PreparedNetwork(namespace, "", nics=1, queues=pairs, vhost=True)
            request = LaunchRequest(
                self.config, self.sandbox, MachineClass(SIZE, nics=1), log_fd, network
            )
            launched = launch_machine(request)
            stack.callback(launched.shares.close)
            vmm = stack.enter_context(LaunchedVmm(launched))
            vmm.wait_booted()
            wire = stack.enter_context(self.join(vmm, launched, namespace, pairs))
            host = HostSide(vmm, self.sandbox.agent_socket, wire)
            stack.callback(host.close)
            return self.watch(vmm, host, seconds)

    @contextlib.contextmanager
    def join(
        self, vmm: LaunchedVmm, launched: LaunchedMachine, namespace: int, pairs: int
    ) -> Iterator[socket.socket]:
        """Gives the guest files and a network; the other end of that."""
        shares = launched.shares
        shares.adopt(launched.pid)
        files = ContainerFiles(shares, "c1")
        root, volume = (str(make_files(self.directory / name)) for name in ("c1", "volume"))
        files.mount(
            [HostMount("bind", root, options=("rbind", "rw"))],
            [Volume(0, volume, read_only=False, recursive=True, field="mounts[0]")],
        )
        with entered(namespace):
            fds = apply([MakeTap(TAP, 1500, pairs)])[TAP]
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            wire.bind((TAP, 0))
            wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            wire.setblocking(False)
        try:
            fds += open_vhost_net(pairs)
            vmm.request("attach_nic", {"nic": 0, "mac": "02:00:00:00:00:01"}, fds)
            with wire:
                yield wire
        finally:
            close_all(fds)
            files.unmount()

    def watch(self, vmm: LaunchedVmm, host: HostSide, seconds: float) -> Ended:
        end = time.monotonic() + seconds
        stopped: dict[str, Any] = {"reason": "", "detail": ""}
        while not stopped["reason"] and time.monotonic() < end:
            if vmm.poll_event(0.05):
                packet = json.loads(vmm.socket.recv(1 << 16))
                vmm.events.append(packet)
            host.act()
            for event in vmm.events:
                if event["event"] == "stopped":
                    stopped = event["args"]
        counters = vmm.request("counters")
        vmm.request("stop")
        stopped = stopped if stopped["reason"] else vmm.wait_event("stopped")
        status = vmm.process.wait(DEADLINE_S)
        said = self.log.read_text(errors="replace").splitlines()
        return Ended(
            stopped["reason"],
            stopped["detail"],
            status,
            counters,
            said,
            host.frames,
            host.stream_bytes,
        )
