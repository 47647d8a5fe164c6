"""This machine as the host, where its KVM runs Linux guests.

The same disks as the emulated host has, on loop devices, in namespaces of their
own: the machine's files, network and processes are not touched, only its kernel
and /dev/kvm are used.  Owns the copies of the disks, the namespaces and one
cgroup.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from tests.testhost.host import Built
from tests.testhost.session import HostFailure, Job, Session

PACKAGE = Path(__file__).parent
ENTER = PACKAGE / "guest" / "enter.sh"
MODULES = "kvm overlay tun loop veth bridge vhost_net vhost_vsock fuse".split()
NAMESPACES = "--mount --propagation private --pid --net --uts --ipc --fork --kill-child".split()

END_DEADLINE_S = 30


class ThisMachine:
    puts_inside = "/run/testhost/puts.tar"

    def __init__(self, built: Built, scratch: Path, puts: Path) -> None:
        self._built = built
        self._scratch = scratch
        self._puts = puts

    def run(self, job: Job, files: BinaryIO, timeout_s: float | None) -> int:
        # Best effort: most are built in or loaded already, and a test says what it lacks.
        subprocess.run(["modprobe", "--all", "--quiet", *MODULES], check=False)
        with ExitStack() as stack:
            cgroup = stack.enter_context(own_cgroup())
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            process = self._start(theirs, cgroup)
            stack.callback(end_process, process)
            theirs.close()
            return Session(ours, timeout_s, files).run(job)

    def _start(self, channel: socket.socket, cgroup: Path | None) -> subprocess.Popen[bytes]:
        root = self._scratch / "root"
        root.mkdir(exist_ok=True)
        guest = self._built.guest
        paths = [
            root,
            self._copy(self._built.base.image, "base"),
            self._copy(self._built.tree, "tree"),
            self._copy(guest, "guest") if guest else "",
            self._puts,
            PACKAGE,
            cgroup or "",
        ]
        words = [*map(str, paths), str(channel.fileno())]
        # Into the cgroup between the two unshares: the cgroup namespace takes its root
        # from where it is made, and the first one's parent must stay outside, because
        # a cgroup with processes hands no controllers down.
        join = '[ -z "$1" ] || echo 0 >"$1/cgroup.procs"; shift; exec "$@"'
        enter = ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES]
        enter += ["sh", "-c", join, "join", str(cgroup or ""), "unshare", "--cgroup"]
        return subprocess.Popen(
            [*enter, "sh", str(ENTER), *words],
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[channel.fileno()],
            start_new_session=True,
        )

    def _copy(self, disk: Path, name: str) -> Path:
        copy = self._scratch / f"{name}.ext4"
        command = ["cp", "--reflink=auto", "--sparse=always", str(disk), str(copy)]
        subprocess.run(command, check=True)
        return copy


def why_not_here() -> str:
    """What this machine lacks for containers as the emulated host runs them; "" if nothing."""
    top = find_cgroup2()
    handed = (top / "cgroup.controllers").read_text().split() if top else []
    lacking = sorted({"cpu", "memory", "pids"} - set(handed))
    return f"cgroup v2 of this machine has no {' '.join(lacking)}" if lacking else ""


def find_cgroup2() -> Path | None:
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)


@contextmanager
def own_cgroup() -> Iterator[Path | None]:
    """A cgroup that becomes the root of the host's hierarchy; None without cgroup v2."""
    top = find_cgroup2()
    if top is None:
        yield None
        return
    controllers = (top / "cgroup.controllers").read_text().split()
    (top / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    cgroup = top / "sampan-testhost"
    cgroup.mkdir(exist_ok=True)
    try:
        yield cgroup
    finally:
        end_cgroup(cgroup)


def end_cgroup(cgroup: Path) -> None:
    """Kills the processes that are left in it, waits for their end, and removes it."""
    (cgroup / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + END_DEADLINE_S
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        if time.monotonic() > deadline:
            raise HostFailure(f"processes in {cgroup} do not die")
        time.sleep(0.01)
    remove_cgroup(cgroup)


def remove_cgroup(cgroup: Path) -> None:
    for child in cgroup.iterdir():
        if child.is_dir():
            remove_cgroup(child)
    cgroup.rmdir()


def end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
