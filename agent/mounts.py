"""The guest's own mounts: what the kernel offers, scratch space, the host's shares.

Runs once, before anything else.  The root is read only and shared by every guest;
all writes go to memory or to the host's shares.
"""

import errno
import os
from typing import Final, NamedTuple

from agent import linux
from proto import contract

CGROUP_ROOT: Final = "/sys/fs/cgroup"
HARDENED: Final = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


class Mount(NamedTuple):
    target: str
    kind: str
    flags: int = 0
    data: str = ""
    source: str = ""


KERNEL: Final = (
    Mount("/proc", "proc", HARDENED),
    Mount("/sys", "sysfs", HARDENED),
    Mount("/dev", "devtmpfs", linux.MS_NOSUID, "mode=755"),
    Mount("/dev/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, "mode=620,ptmxmode=666,gid=5"),
    Mount("/dev/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777"),
    Mount("/run", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755"),
    Mount("/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=1777"),
    Mount(CGROUP_ROOT, "cgroup2", HARDENED, "nsdelegate,memory_recursiveprot"),
)
SHARES: Final = (
    Mount(contract.GUEST_ROOTFS_DIR, "virtiofs", source=contract.ROOTFS_TAG),
    Mount(contract.GUEST_VOLUMES_DIR, "virtiofs", source=contract.VOLUMES_TAG),
)


def mount_all(mounts: tuple[Mount, ...]) -> None:
    for mount in mounts:
        try:
            os.makedirs(mount.target, mode=0o755, exist_ok=True)
            linux.mount(
                mount.source or mount.kind, mount.target, mount.kind, mount.flags, mount.data
            )
        except OSError as error:
            # The kernel may be built to mount /dev itself.
            if error.errno != errno.EBUSY or mount.kind != "devtmpfs":
                raise


def mount_shares() -> None:
    """Mounts the shares, and allows as much dirty data on them as on a local file
    system.

    By default FUSE gets 1 % of the dirty limit, for file servers that may fail to
    write; ours is the host.  Spec: ABI/testing/sysfs-class-bdi.
    """
    mount_all(SHARES)
    for share in SHARES:
        device = os.stat(share.target).st_dev
        with open(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/max_ratio", "w") as file:
            file.write("100")


def enable_controllers() -> None:
    """Enables every controller for the containers' cgroups.

    The agent stays in the root cgroup, which has no limits; and PID 1 is never
    chosen by the kernel's out-of-memory killer.
    """
    with open(f"{CGROUP_ROOT}/cgroup.controllers") as file:
        wanted = " ".join(f"+{name}" for name in file.read().split())
    os.makedirs(f"{CGROUP_ROOT}/sampan", exist_ok=True)
    for directory in (CGROUP_ROOT, f"{CGROUP_ROOT}/sampan"):
        with open(f"{directory}/cgroup.subtree_control", "w") as file:
            file.write(wanted)
