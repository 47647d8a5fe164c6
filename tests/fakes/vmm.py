"""A vmm without a machine: speaks proto/control.py, its guest is the agent on this host.

`python -m tests.fakes.vmm`, started by the shim in the real one's place (the
configuration's `vmm_command`).  The agent runs in a mount namespace with the
shares where a guest has them; vsock connections become unix ones; each stream
is moved by a thread.  Needs root, crun and cgroup2.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from proto.contract import GUEST_ROOTFS_DIR, GUEST_VOLUMES_DIR, ROOTFS_TAG, VOLUMES_TAG
from proto.control import CONTROL_FD, MAX_PACKET_BYTES, Direction, Event, Operation
from shim.host.fds import opened
from shim.host.syscalls import attach_tree, enter_mount_namespace

TREE = Path(__file__).resolve().parents[2]
CHUNK_BYTES = 64 << 10
PR_SET_PDEATHSIG = 1
CLONE_FS = 0x200
PREPARE = """
set -e
mount -t tmpfs none "$0"; mkdir -p "$0/rootfs" "$0/volumes"
mount --rbind "$1" "$0/rootfs"; mount --rbind "$2" "$0/volumes"
mkdir -p /run/sampan/rootfs /run/sampan/volumes
mount --rbind "$0/rootfs" /run/sampan/rootfs; mount --rbind "$0/volumes" /run/sampan/volumes
mount -t cgroup2 none /sys/fs/cgroup
cp "$(readlink -f /usr/bin/crun)" "$0/crun"
mount --bind "$3" /usr/bin/crun
shift 3
exec "$@"
"""


CRUN = """\
#!{python}
import json, os, sys
for word in sys.argv:
    if word.startswith("--bundle="):
        path = word.removeprefix("--bundle=") + "/config.json"
        spec = json.load(open(path))
        spec["linux"].pop("resources", None)
        json.dump(spec, open(path, "w"))
os.execv("{scratch}/crun", ["crun", *sys.argv[1:]])
"""
"""Without limits: a host with cgroup v1 beside v2 has no controllers to enforce them,
and one without CAP_SYS_RESOURCE cannot load the program that guards devices."""


class FakeVmm:
    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.sending = threading.Lock()
        self.place = ""
        self.placed = threading.Event()
        """The tree of the shares is mounted on `place`, or there never will be one."""
        self.rooted = threading.Event()
        self.agent: subprocess.Popen[bytes] | None = None
        self.directory = Path()

    def run(self) -> None:
        while True:
            packet, fds, _, _ = socket.recv_fds(self.control, MAX_PACKET_BYTES, 8)
            if not packet:
                return
            request = json.loads(packet)
            result = self.serve(request["op"], request["args"], fds)
            self.send({"id": request["id"], "result": result})
            if request["op"] == Operation.STOP:
                return

    def send(self, message: dict[str, Any]) -> None:
        with self.sending, suppress(BrokenPipeError):
            self.control.send(json.dumps(message).encode())

    def serve(self, operation: str, arguments: dict[str, Any], fds: list[int]) -> Any:
        if operation == Operation.BOOT:
            agent, events, tree = fds
            self.boot(arguments, tree)
            start_thread(self.accept, socket.socket(fileno=agent), "relay")
            start_thread(self.accept, socket.socket(fileno=events), "events")
            return {"timings_us": {}}
        if operation == Operation.OPEN_STREAM:
            start_thread(self.move_stream, arguments, fds[0])
        if operation == Operation.COUNTERS:
            return {"exits": {}, "devices": {}}
        return {}

    def boot(self, machine: dict[str, Any], tree: int) -> None:
        """The tree of the shares is mounted on its place, and is the main thread's root."""
        with opened(os.open(machine["root_path"], os.O_PATH | os.O_DIRECTORY)) as place:
            attach_tree(tree, place)
        subprocess.run(["mount", "--make-shared", machine["root_path"]], check=True)
        self.place = machine["root_path"]
        self.placed.set()
        self.rooted.wait()
        shares = {share["tag"]: machine["root_path"] + share["path"] for share in machine["shares"]}
        self.directory = Path(tempfile.mkdtemp(prefix="sampan-fake-vmm-"))
        scratch = self.directory / "mnt"
        scratch.mkdir()
        (self.directory / "run").mkdir()
        agent = [sys.executable, "-m", "agent", f"--run-dir={self.directory}/run"]
        agent += [f"--{name}={self.directory}/{name}" for name in ("relay", "streams", "events")]
        shell = ["sh", "-c", PREPARE, str(scratch), shares[ROOTFS_TAG], shares[VOLUMES_TAG]]
        shell.append(self.write_crun(scratch))
        self.agent = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "slave", "--", *shell, *agent],
            cwd=TREE,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (no thread has been started yet)
        )
        start_thread(self.report_end)

    def write_crun(self, scratch: Path) -> str:
        crun = self.directory / "crun"
        crun.write_text(CRUN.format(python=sys.executable, scratch=scratch))
        crun.chmod(0o755)
        return str(crun)

    def report_end(self) -> None:
        assert self.agent is not None
        status = self.agent.wait()
        detail = f"agent ended with {status}"
        self.send({"event": Event.STOPPED, "args": {"reason": "poweroff", "detail": detail}})

    def accept(self, listener: socket.socket, name: str) -> None:
        while True:
            client, _ = listener.accept()
            agent = socket.socket(socket.AF_UNIX)
            try:
                agent.connect(f"{self.directory}/{name}")
            except OSError:
                client.close()
                agent.close()
                continue
            start_thread(pump_socket, client, agent)
            start_thread(pump_socket, agent, client)

    def move_stream(self, arguments: dict[str, Any], fd: int) -> None:
        os.set_blocking(fd, True)
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(f"{self.directory}/streams")
            stream.sendall(bytes.fromhex(arguments["token"]))
            if arguments["direction"] == Direction.TO_GUEST:
                moved = send_all(fd, stream)
            else:
                moved = receive_all(stream, fd)
        os.close(fd)
        closed = {"stream": arguments["stream"], "bytes_moved": moved, "error": 0}
        self.send({"event": Event.STREAM_CLOSED, "args": closed})


def die_with_parent() -> None:
    """A guest ends with its vmm, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def send_all(fd: int, stream: socket.socket) -> int:
    moved = 0
    with suppress(OSError):
        while data := os.read(fd, CHUNK_BYTES):
            stream.sendall(data)
            moved += len(data)
        stream.shutdown(socket.SHUT_WR)
    return moved


def receive_all(stream: socket.socket, fd: int) -> int:
    moved = 0
    while data := stream.recv(CHUNK_BYTES):
        moved += len(data)
        while data:
            data = data[os.write(fd, data) :]
    return moved


def pump_socket(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def start_thread(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def serve(vmm: FakeVmm) -> None:
    """On a thread that keeps the host's root."""
    ctypes.CDLL(None).unshare(CLONE_FS)
    try:
        vmm.run()
    finally:
        vmm.placed.set()
        if vmm.agent is not None:
            # The agent's shell did exec: its pid is the agent's.
            vmm.agent.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                vmm.agent.wait(5)
            vmm.agent.kill()
            subprocess.run(["rm", "-rf", vmm.directory], check=False)


def main() -> None:
    assert GUEST_ROOTFS_DIR == "/run/sampan/rootfs"
    assert GUEST_VOLUMES_DIR == "/run/sampan/volumes"
    enter_mount_namespace()
    vmm = FakeVmm(socket.socket(fileno=CONTROL_FD))
    serving = threading.Thread(target=serve, args=(vmm,))
    serving.start()
    vmm.placed.wait()
    if vmm.place:
        os.chroot(vmm.place)
    vmm.rooted.set()
    serving.join()


if __name__ == "__main__":
    main()
