"""Prints, as JSON, what a process in a container sees.  Runs inside containers.

Needs only the standard library; compared value by value between two runtimes.
"""

import json
import os
import resource
import stat
import sys

STATUS_KEYS = (
    "Uid Gid Groups NoNewPrivs Seccomp CapInh CapPrm CapEff CapBnd CapAmb SigIgn Umask".split()
)
LIMITS = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))


def read_status() -> dict[str, str]:
    with open("/proc/self/status") as file:
        pairs = (line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        return {key: value for key, value in pairs if key in STATUS_KEYS}


def read_mounts() -> dict[str, list[str]]:
    """Mount point → file system type and the options that change what a program may do."""
    found = {}
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, after = line.split(" - ")
            point, options = before.split()[4:6]
            kept = sorted(
                word for word in options.split(",") if word in ("ro", "nosuid", "nodev", "noexec")
            )
            found[point] = [after.split()[0], *kept]
    return found


def read_devices() -> dict[str, str]:
    found = {}
    for name in sorted(os.listdir("/dev")):
        info = os.lstat(os.path.join("/dev", name))
        kind = stat.S_IFMT(info.st_mode)
        text = f"{kind:o}"
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            text += (
                f" {os.major(info.st_rdev)}:{os.minor(info.st_rdev)} {stat.S_IMODE(info.st_mode):o}"
            )
        elif kind == stat.S_IFLNK:
            text += f" -> {os.readlink(os.path.join('/dev', name))}"
        found[name] = text
    return found


def try_read(path: str) -> str:
    """What reading gives: the number of entries, or bytes up to 1, or the errno's name."""
    try:
        if os.path.isdir(path):
            return f"directory of {len(os.listdir(path))}"
        with open(path, "rb") as file:
            return f"file of {len(file.read(1))}"
    except OSError as error:
        return os.strerror(error.errno or 0)


def try_write(path: str) -> str:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "writable"


def try_create(directory: str) -> str:
    path = os.path.join(directory, ".probe")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        return os.strerror(error.errno or 0)
    os.unlink(path)
    return "created"


def try_calls() -> dict[str, str]:
    """Calls that capabilities and seccomp decide on."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    results = {}
    for name, call in {
        "unshare-user": lambda: libc.unshare(0x10000000),
        "mount": lambda: libc.mount(b"none", b"/mnt", b"tmpfs", 0, None),
        "sethostname": lambda: libc.sethostname(b"x", 1),
        "chroot": lambda: libc.chroot(b"/"),
        "keyctl": lambda: libc.syscall(250, 0, -3, 0),
        "add_key": lambda: libc.syscall(248, b"user", b"k", b"v", 1, -3),
        "settimeofday-null": lambda: libc.syscall(164, None, None),
        "setuid-0": lambda: libc.setuid(0),
        "mknod": lambda: libc.mknod(b"/tmp/.node", 0o020600, os.makedev(1, 3)),
        "socket-raw": lambda: libc.socket(2, 3, 1),
    }.items():
        ctypes.set_errno(0)
        child = os.fork()
        if child == 0:
            os._exit(ctypes.get_errno() if call() < 0 else 0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        results[name] = "ok" if code == 0 else os.strerror(code) if code > 0 else f"signal {-code}"
    return results


def collect() -> dict[str, object]:
    return {
        "environment": dict(os.environ),
        "arguments": sys.argv[1:],
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "hostname": os.uname().nodename,
        "status": read_status(),
        "limits": {name: list(resource.getrlimit(getattr(resource, name))) for name in LIMITS},
        "oom_score_adj": open("/proc/self/oom_score_adj").read().strip(),
        "mounts": read_mounts(),
        "devices": read_devices(),
        "open_files": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
        "masked": {
            path: try_read(path)
            for path in (
                "/proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list"
                " /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware"
            ).split()
        },
        "read_only": {
            path: try_write(path)
            for path in "/proc/sysrq-trigger /proc/sys/kernel/hostname /proc/irq /proc/bus".split()
        },
        "creatable": {path: try_create(path) for path in "/ /tmp /dev /dev/shm /run /sys".split()},
        "calls": try_calls(),
        "cgroup": open("/proc/self/cgroup").read().split("\n")[-2],
    }


if __name__ == "__main__":
    print(json.dumps(collect(), sort_keys=True))
