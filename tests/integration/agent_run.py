"""Runs the agent on this machine, outside a guest, and talks to it as the shim does.

Agent is a context manager over `python -m agent` in a mount namespace of its
own with cgroup2 at /sys/fs/cgroup.  Task is one process in it with its streams.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from proto.gen.agent.v1 import agent_pb2 as pb
from proto.gen.agent.v1 import agent_pb2_grpc
from tests.process_events import ProcessEvents

TREE = Path(__file__).resolve().parents[2]
DEADLINE_S = 50
"""The timeout of every wait; only an event that never happens takes this long."""
APPLETS = (
    "sh cat echo sleep ls id dd stty head true false kill ps test mkdir rm sha256sum yes tail"
).split()
START = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$0" "$@"'


def make_rootfs(directory: Path) -> Path:
    for name in ("bin", "proc", "dev", "sys", "tmp", "etc"):
        (directory / name).mkdir(parents=True)
    (directory / "tmp").chmod(0o777)
    busybox = directory / "bin/busybox"
    busybox.write_bytes(Path("/bin/busybox").read_bytes())
    busybox.chmod(0o755)
    for name in APPLETS:
        (directory / "bin" / name).symlink_to("busybox")
    (directory / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (directory / "bin/not-executable").write_text("x")
    (directory / "bin/not-executable").chmod(0o644)
    return directory


def process_document(args: list[str], uid: int = 0) -> dict[str, Any]:
    return {
        "args": args,
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": uid, "gid": uid},
    }


def spec_document(rootfs: Path, process: dict[str, Any], container_id: str) -> dict[str, Any]:
    kinds = ("pid", "mount", "ipc", "uts", "cgroup")
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "cgroupsPath": f"/sampan/{container_id}",
            "namespaces": [{"type": kind} for kind in kinds],
        },
    }


class Agent:
    """The agent's process, its client, and the things that it must not leave
    behind."""

    def __init__(self, directory: Path, *options: str) -> None:
        """`options`: more words of the agent's command line."""
        self.directory = directory
        self.options = options
        self.run_dir = directory / "run"
        self.tasks: list[Task] = []
        self.prefix = secrets.token_hex(3)
        self.rootfs = make_rootfs(directory / "rootfs")
        self.relay_path, self.streams_path, self.events_path = (
            str(directory / name) for name in ("relay", "streams", "events")
        )

    def __enter__(self) -> "Agent":
        command = ["unshare", "--mount", "--", "sh", "-c", START, sys.executable, "-m", "agent"]
        options = {
            "--relay": self.relay_path,
            "--streams": self.streams_path,
            "--events": self.events_path,
            "--run-dir": str(self.run_dir),
        }
        command += [word for option in options.items() for word in option]
        command += self.options
        self.errors = open(self.directory / "stderr", "w+b")
        self.process = subprocess.Popen(
            command, cwd=TREE, stdin=subprocess.DEVNULL, stderr=self.errors
        )
        # Through the relay, as from outside a guest.
        self.channel = grpc.insecure_channel(f"unix:{self.relay_path}")
        self.stub = agent_pb2_grpc.AgentStub(self.channel)
        self.info = self.stub.GetInfo(pb.GetInfoRequest(), wait_for_ready=True, timeout=DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(DEADLINE_S)
        self.errors.close()

    def clear(self) -> None:
        """After a test, also one that failed half way."""
        for task in reversed(self.tasks):
            with suppress(grpc.RpcError):
                task.kill(9)
                task.wait()
            with suppress(grpc.RpcError):
                task.delete()
            task.close()
        self.tasks.clear()

    def has_controller(self, name: str) -> bool:
        proc = Path(f"/proc/{self.process.pid}")
        return name in (proc / "root/sys/fs/cgroup/cgroup.controllers").read_text().split()

    @property
    def cgroups(self) -> Path:
        """The containers' cgroups, as the agent has them mounted."""
        return Path(f"/proc/{self.process.pid}/root/sys/fs/cgroup/sampan")

    def make_id(self) -> str:
        """An id that no other agent tested on this machine uses."""
        return f"{self.prefix}-{secrets.token_hex(4)}"

    def complaints(self) -> str:
        return (self.directory / "stderr").read_text()

    def connect(self, token: str) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        stream.settimeout(DEADLINE_S)
        stream.connect(self.streams_path)
        stream.sendall(bytes.fromhex(token))
        return stream

    def holdings(self) -> dict[str, Any]:
        """Counts that grow when something leaks."""
        proc = Path(f"/proc/{self.process.pid}")
        tasks = list((proc / "task").iterdir())
        children = [word for task in tasks for word in (task / "children").read_text().split()]
        return {
            "fds": len(list((proc / "fd").iterdir())),
            "threads": len(tasks),
            "children": children,
            "mounts": len((proc / "mounts").read_text().splitlines()),
            "files": sorted(str(path) for path in self.run_dir.rglob("*")),
            "cgroups": sorted(path.name for path in self.cgroups.glob(f"{self.prefix}*/")),
        }

    def wait_holdings(self, wanted: dict[str, Any]) -> None:
        """Connections that a test has closed end at the agent a moment later."""
        deadline = time.monotonic() + DEADLINE_S
        while (now := self.holdings()) != wanted:
            assert time.monotonic() < deadline, f"{now} instead of {wanted}"
            time.sleep(0.01)


@dataclass
class Task:
    """A process in the agent: streams by name, and its calls."""

    agent: Agent
    container_id: str
    exec_id: str = ""
    streams: dict[str, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.agent.tasks.append(self)

    @property
    def ref(self) -> pb.ProcessRef:
        return pb.ProcessRef(container_id=self.container_id, exec_id=self.exec_id)

    @property
    def container(self) -> pb.ContainerRef:
        return pb.ContainerRef(container_id=self.container_id)

    def open_streams(
        self, names: tuple[str, ...], late: tuple[str, ...] = (), *, terminal: bool = False
    ) -> pb.Stdio:
        self.tokens = {name: secrets.token_hex(16) for name in names + late}
        self.streams = {name: self.agent.connect(self.tokens[name]) for name in names}
        named = {f"{name}_token": token for name, token in self.tokens.items()}
        return pb.Stdio(terminal=terminal, **named)

    def connect_late(self, name: str) -> None:
        self.streams[name] = self.agent.connect(self.tokens[name])

    def start(self) -> int:
        return self.agent.stub.StartProcess(self.ref, timeout=DEADLINE_S).guest_pid

    def watch(self, known_kills: int = 0) -> ProcessEvents:
        path = self.agent.events_path
        return ProcessEvents(path, self.ref, DEADLINE_S, known_kills=known_kills)

    def wait(self) -> int:
        with self.watch() as events:
            return events.read_end().exit_status

    def kill(self, signal: int, *, everyone: bool = False) -> None:
        request = pb.SignalProcessRequest(process=self.ref, signal=signal, all=everyone)
        self.agent.stub.SignalProcess(request, timeout=DEADLINE_S)

    def delete(self) -> int:
        return self.agent.stub.DeleteProcess(self.ref, timeout=DEADLINE_S).exit_status

    def pids(self) -> list[int]:
        """Processes of its cgroup and those below."""
        top = self.agent.cgroups / self.container_id
        return [
            int(line) for file in top.rglob("cgroup.procs") for line in file.read_text().split()
        ]

    def read(self, name: str) -> bytes:
        """Reads to the end of the stream."""
        return b"".join(iter(lambda: self.streams[name].recv(1 << 16), b""))

    def read_until(self, name: str, text: bytes) -> bytes:
        got = b""
        while text not in got:
            more = self.streams[name].recv(1 << 16)
            assert more, f"{name} ended after {got!r}"
            got += more
        return got

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()


ALL = ("stdin", "stdout", "stderr")


def create(
    agent: Agent,
    args: list[str],
    *,
    streams: tuple[str, ...] = ("stdout", "stderr"),
    late: tuple[str, ...] = (),
    terminal: bool = False,
    uid: int = 0,
    change: dict[str, Any] | None = None,
    resources: dict[str, Any] | None = None,
) -> Task:
    task = Task(agent, agent.make_id())
    spec = spec_document(agent.rootfs, process_document(args, uid), task.container_id)
    spec.update(change or {})
    spec["linux"]["resources"] = resources or {}
    stdio = task.open_streams(streams, late, terminal=terminal)
    request = pb.CreateContainerRequest(
        container_id=task.container_id, spec_json=json.dumps(spec).encode(), stdio=stdio
    )
    try:
        agent.stub.CreateContainer(request, timeout=DEADLINE_S)
    except grpc.RpcError:
        task.close()
        raise
    return task


def add_exec(
    task: Task,
    args: list[str],
    *,
    streams: tuple[str, ...] = ("stdout", "stderr"),
    late: tuple[str, ...] = (),
    terminal: bool = False,
    uid: int = 0,
) -> Task:
    process = Task(task.agent, task.container_id, f"e{secrets.token_hex(4)}")
    stdio = process.open_streams(streams, late, terminal=terminal)
    request = pb.AddExecRequest(
        container_id=task.container_id,
        exec_id=process.exec_id,
        process_json=json.dumps(process_document(args, uid)).encode(),
        stdio=stdio,
    )
    task.agent.stub.AddExec(request, timeout=DEADLINE_S)
    return process


def running(agent: Agent, args: list[str], **options: Any) -> Task:
    task = create(agent, args, **options)
    task.start()
    return task


def finish(*tasks: Task) -> None:
    """Kills, deletes and closes; execs come before their container."""
    for task in tasks:
        with suppress(grpc.RpcError):  # it may have ended
            task.kill(9)
        task.wait()
        task.delete()
        task.close()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
