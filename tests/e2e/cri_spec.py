"""An OCI spec with the fields that containerd's CRI plugin sets for a container.

Written from the fields that CRI documents and crictl shows, not from a dump.
"""

import json
from pathlib import Path

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP"
        " NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    ).split()
]
MASKED = (
    "/proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list"
    " /proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware"
    " /sys/devices/virtual/powercap"
).split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
SAFE_CALLS = "keyctl add_key request_key bpf kexec_load open_by_handle_at".split()


def mount(where: str, kind: str, source: str, *options: str) -> dict[str, object]:
    return {"destination": where, "type": kind, "source": source, "options": list(options)}


def write(path: Path, root: Path, probe: str) -> Path:
    mounts = [
        mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount(
            "/dev/pts", "devpts", "devpts",
            "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
        ),
        mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        mount(
            "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"
        ),
        mount("/tmp", "tmpfs", "tmpfs", "nosuid", "nodev"),
    ]  # fmt: skip
    spec = {
        "ociVersion": "1.1.0",
        "process": {
            "user": {"uid": 1000, "gid": 1000, "umask": 18, "additionalGids": [1000, 50, 2000]},
            "args": ["python3", "-c", probe],
            "env": ["PATH=/usr/local/bin:/usr/bin:/bin", "HOSTNAME=pod-1", "KEY=value with spaces"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
            "noNewPrivileges": True,
            "oomScoreAdj": 900,
        },
        "root": {"path": str(root), "readonly": True},
        "hostname": "pod-1",
        "mounts": mounts,
        "annotations": {
            "io.kubernetes.cri.container-name": "probe",
            "io.kubernetes.cri.image-name": "localhost/sampan/debian:1",
        },
        "linux": {
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "memory": {"limit": 256 << 20},
                "cpu": {"shares": 204, "quota": 50000, "period": 100000},
                "pids": {"limit": 100},
            },
            "cgroupsPath": f"/kubepods-test/{path.stem}",
            "namespaces": [
                {"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")
            ],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": SAFE_CALLS, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
            },
        },
    }
    path.write_text(json.dumps(spec))
    return path
