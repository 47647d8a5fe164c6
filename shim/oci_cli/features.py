"""`features`: what of the runtime spec sampan implements (features.md, features-linux.md)."""

import json
from typing import Any, Final

from shim.host.mounts import FLAGS
from shim.oci.hooks import CREATED_HOOKS, GUEST_HOOKS, STARTED_HOOKS, STOPPED_HOOKS
from shim.oci_cli.call import Call
from shim.oci_cli.record import OCI_VERSION
from shim.version import VERSION

NAMESPACES: Final = ("cgroup", "ipc", "mount", "network", "pid", "uts")
CAPABILITIES: Final = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
""".split()
SECCOMP_ACTIONS: Final = """
SCMP_ACT_ALLOW SCMP_ACT_ERRNO SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_KILL_THREAD
SCMP_ACT_LOG SCMP_ACT_TRACE SCMP_ACT_TRAP
""".split()
"""Not SCMP_ACT_NOTIFY: its listener would be on the host."""
SECCOMP_OPERATORS: Final = """
SCMP_CMP_EQ SCMP_CMP_GE SCMP_CMP_GT SCMP_CMP_LE SCMP_CMP_LT SCMP_CMP_MASKED_EQ SCMP_CMP_NE
""".split()
OWN_ANNOTATIONS: Final = "dev.sampan."
"""A prefix: of shim/oci/annotations.py."""
ARCHITECTURES: Final = ("SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "SCMP_ARCH_X32")


def features(call: Call) -> int:
    print(json.dumps(describe_features(), indent=2))
    return 0


def describe_features() -> dict[str, Any]:
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": [*CREATED_HOOKS, *GUEST_HOOKS, *STARTED_HOOKS, *STOPPED_HOOKS],
        "mountOptions": sorted(FLAGS),
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": [f"CAP_{name}" for name in CAPABILITIES],
            "cgroup": {
                "v1": False,
                "v2": True,
                "systemd": False,
                "systemdUser": False,
                "rdma": False,
            },
            "seccomp": {
                "enabled": True,
                "actions": SECCOMP_ACTIONS,
                "operators": SECCOMP_OPERATORS,
                "archs": list(ARCHITECTURES),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
        },
        "annotations": {"dev.sampan.runtime-version": VERSION},
        "potentiallyUnsafeConfigAnnotations": [OWN_ANNOTATIONS],
    }
