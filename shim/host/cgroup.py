"""The cgroup of the host in which a sandbox's processes live: made, entered, left, removed.

cgroup v2 only.  Owns the directory that it has made; those above it stay, as with runc.
Synchronous; imports little, as shim/machine/cleanup.py does, which removes what a process
that was killed has left.  Spec: the kernel's admin-guide/cgroup-v2.rst.
"""

import errno
import os

ROOT = "/sys/fs/cgroup"
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
REMOVE_TRIES = 50
REMOVE_PAUSE_S = 0.02


class HostCgroup:
    """Lifecycle: `make`, `limit`, `enter`; then `leave`, once all others in it have ended."""

    __slots__ = ("origin", "path", "quota")

    def __init__(self, path: str) -> None:
        """`path`: below the root of the hierarchy, without a slash in front."""
        self.path = f"{ROOT}/{path}"
        self.origin = read_own()
        """The cgroup that this process is in now, and returns to."""
        self.quota = ""
        """A value for cpu.max that is to hold later; "" for none."""

    def make(self) -> None:
        """With all available controllers; FileExistsError when a process is in it."""
        below = ROOT
        for part in self.path.removeprefix(f"{ROOT}/").split("/"):
            enable_controllers(below)
            below = f"{below}/{part}"
            try:
                os.mkdir(below, 0o755)
            except FileExistsError:
                continue
        if read_file(f"{below}/cgroup.procs"):
            raise FileExistsError(errno.EEXIST, "processes are in it already", below)

    def limit(self, files: "dict[str, str]") -> None:
        """`files`: values by file name; those of a missing controller are skipped."""
        for name, value in files.items():
            path = f"{self.path}/{name}"
            if os.path.exists(path):
                write_file(path, value)

    def enter(self, *pids: int) -> None:
        """Moves this process, whose later children follow; or `pids`."""
        for pid in pids or (0,):
            write_file(f"{self.path}/cgroup.procs", str(pid))

    def send_back(self, pid: int) -> None:
        """Moves a child that is not part of the sandbox to this process's first cgroup."""
        write_file(f"{ROOT}/{self.origin}/cgroup.procs", str(pid))

    def count_oom_kills(self) -> int:
        for line in read_file(f"{self.path}/memory.events").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0

    def read_limit(self) -> str:
        return read_file(f"{self.path}/memory.max").strip()

    def leave(self) -> None:
        """Moves this process back, and removes the cgroup."""
        self.send_back(0)
        remove_cgroup(self.path)


def is_unified() -> bool:
    """Whether the host has cgroup v2 alone."""
    return os.path.exists(f"{ROOT}/cgroup.controllers")


def enter_path(path: str) -> None:
    """Moves this process into the existing cgroup `path`, below the root; "" is the root."""
    write_file(f"{ROOT}/{path}/cgroup.procs", "0")


def read_own(process: str = "self") -> str:
    """The path of a process's cgroup, below the root; this one's if none is named."""
    for line in read_file(f"/proc/{process}/cgroup").splitlines():
        if line.startswith("0::/"):
            return line[len("0::/") :]
    return ""


def enable_controllers(directory: str) -> None:
    """For the cgroups below it.  One at a time: a host may refuse some, as with real-time
    processes, and the others are still wanted."""
    there = read_file(f"{directory}/cgroup.controllers").split()
    enabled = read_file(f"{directory}/cgroup.subtree_control").split()
    for name in CONTROLLERS:
        if name in there and name not in enabled:
            try:
                write_file(f"{directory}/cgroup.subtree_control", f"+{name}")
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP):
                    raise


def remove_cgroup(path: str) -> None:
    """Its processes have ended, or are about to.  Does nothing if there is no such cgroup."""
    from time import sleep  # noqa: PLC0415  (most often there is nothing to wait for)

    for _ in range(REMOVE_TRIES):
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            sleep(REMOVE_PAUSE_S)


def read_file(path: str) -> str:
    """ "" if there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write_file(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
