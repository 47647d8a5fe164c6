"""A guest with the real image, and its agent's client, for tests below the shim."""

import json
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import grpc

from proto import contract
from proto.control import MachineConfig, Share, SharePolicy
from proto.gen.agent.v1 import agent_pb2 as pb
from proto.gen.agent.v1 import agent_pb2_grpc
from tests.process_events import ProcessEvents
from tests.vm.conftest import IMAGE, MIB
from tests.vm.machine import DEADLINE_S, VmmProcess

APPLETS = ("sh", "cat", "dd", "echo", "grep", "head", "tail", "sleep", "od")
CAPABILITIES = (
    "CAP_SYS_RAWIO",
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
    "CAP_SYSLOG",
    "CAP_DAC_OVERRIDE",
)
NAMESPACES = ("pid", "mount", "ipc", "uts", "cgroup")


class Guest:
    """A booted guest, its agent's client, and one root for all its containers."""

    def __init__(self, vmm: VmmProcess, directory: Path) -> None:
        self.vmm = vmm
        self.directory = directory
        self.roots: list[Path] = []
        self.streams = 0
        self.faults_at_start = 0
        for name in ("rootfs", "volumes"):
            (directory / name).mkdir()
        self.channel = grpc.insecure_channel(
            f"unix:{directory}/agent",
            options=[("grpc.max_reconnect_backoff_ms", 100)],
        )
        self.stub = agent_pb2_grpc.AgentStub(self.channel)

    def boot(self, template: str = "", **changes: Any) -> dict[str, Any]:
        """Until the agent answers; what the vmm said."""
        result = self.begin(template, **changes)
        self.wait_agent()
        return result

    def wait_agent(self) -> None:
        self.stub.GetInfo(pb.GetInfoRequest(), wait_for_ready=True, timeout=DEADLINE_S)

    def begin(self, template: str = "", operation: str = "boot", **changes: Any) -> dict[str, Any]:
        config = make_config(self.directory)._replace(template=template, **changes)
        with socket.socket(socket.AF_UNIX) as agent, socket.socket(socket.AF_UNIX) as events:
            for name, listener in (("agent", agent), ("events", events)):
                listener.bind(f"{self.directory}/{name}")
                listener.listen()
            descriptors = [agent.fileno(), events.fileno()]
            return self.vmm.request(operation, config.to_json(), descriptors)

    def make_root(self, name: str) -> Path:
        root = self.directory / "rootfs" / name
        for part in ("bin", "proc", "dev", "sys"):
            (root / part).mkdir(parents=True)
        bind_on_itself(root)
        self.roots.append(root)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        return root

    def close(self) -> None:
        self.channel.close()
        while self.roots:
            subprocess.run(["umount", "--lazy", self.roots.pop()], check=True)

    def open_stream(self, direction: str) -> tuple[str, socket.socket]:
        self.streams += 1
        token = secrets.token_hex(contract.STREAM_TOKEN_BYTES)
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_S)
        with theirs:
            arguments = {"stream": self.streams, "token": token, "direction": direction}
            self.vmm.request("open_stream", arguments, [theirs.fileno()])
        return token, ours

    def create(
        self, name: str, script: str, privileged: bool = False, **limits: int
    ) -> socket.socket:
        """Created, not started; its stdout.  `privileged`: it sees all of the guest."""
        token, stdout = self.open_stream("from_guest")
        namespaces: list[dict[str, str]] = [{"type": kind} for kind in NAMESPACES]
        namespaces.append({"type": "network", "path": "/proc/1/ns/net"})
        spec: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]},
            "root": {"path": f"{contract.GUEST_ROOTFS_DIR}/{name}"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": namespaces, "resources": {"memory": limits}},
        }
        if privileged:
            open_guest(spec)
        self.stub.CreateContainer(
            pb.CreateContainerRequest(
                container_id=name,
                spec_json=json.dumps(spec).encode(),
                stdio=pb.Stdio(stdout_token=token),
            ),
            timeout=DEADLINE_S,
        )
        return stdout

    def watch(self, name: str) -> ProcessEvents:
        ref = pb.ProcessRef(container_id=name)
        return ProcessEvents(f"{self.directory}/events", ref, DEADLINE_S)

    def run(self, name: str, script: str, privileged: bool = False) -> tuple[int, bytes]:
        """Exit status and output."""
        ref = pb.ProcessRef(container_id=name)
        with self.create(name, script, privileged) as stdout:
            self.stub.StartProcess(ref, timeout=DEADLINE_S)
            output = b"".join(iter(lambda: stdout.recv(MIB), b""))
        with self.watch(name) as events:
            status = events.read_end().exit_status
        self.stub.DeleteProcess(ref, timeout=DEADLINE_S)
        return status, output


def open_guest(spec: dict[str, Any]) -> None:
    """The guest's processes and its memory."""
    sets = ("bounding", "effective", "permitted")
    spec["process"]["capabilities"] = dict.fromkeys(sets, CAPABILITIES)
    spec["mounts"].append({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"})
    linux = spec["linux"]
    linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "pid"]
    linux["devices"] = [{"path": "/dev/mem", "type": "c", "major": 1, "minor": 1}]
    linux["resources"]["devices"] = [{"allow": True, "access": "rwm"}]


def bind_on_itself(root: Path) -> None:
    """What a guest may write to is a mount in its share, as the shim has it."""
    subprocess.run(["mount", "--bind", root, root], check=True)


def make_config(directory: Path) -> MachineConfig:
    return MachineConfig(
        vcpus=1,
        memory_bytes=512 * MIB,
        kernel_path=str(IMAGE / "vmlinux"),
        console_path=str(directory / "console"),
        shares=(
            Share(contract.IMAGE_TAG, str(IMAGE / "root"), SharePolicy.IMAGE),
            Share(contract.ROOTFS_TAG, str(directory / "rootfs"), SharePolicy.EXCLUSIVE),
            Share(contract.VOLUMES_TAG, str(directory / "volumes"), SharePolicy.SHARED),
        ),
        ports=(contract.AGENT_PORT, contract.EVENTS_PORT),
    )
