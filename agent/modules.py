"""The guest's kernel modules: those loaded at the start, and those on demand.

contract.GUEST_MODULES_FILE lists paths of plain .ko files in load order.  File
systems wait until a mount asks for them: the kernel then runs /sbin/modprobe, which
is main() here.  The network driver is loaded once there is a network, the others
after the first container has had time to start.
"""

import errno
import sys

from agent import linux
from proto import contract

NIC_DRIVER = "virtio_net"
NIC_MODULES = frozenset({NIC_DRIVER, "net_failover", "failover"})
"""The driver and what it depends on."""
LATER = frozenset({"virtio_balloon", "ptp_kvm", "ptp", "pps_core"})
"""Free page reporting to the host; the host's time from KVM."""
ON_DEMAND = frozenset({"overlay", *NIC_MODULES, *LATER})
NOT_HERE = frozenset({errno.ENODEV, errno.EOPNOTSUPP})
"""The error of a driver that finds no device."""
FILE_SYSTEM_ALIAS = "fs-"  # linux/fs.h: MODULE_ALIAS_FS


def load_at_start() -> None:
    for path in read_paths():
        if name_of(path) not in ON_DEMAND:
            load(path)


def load_nic_driver() -> None:
    """Only if a device is present: a guest without a network does not need it."""
    load_named(NIC_MODULES)


def load_later() -> None:
    load_named(LATER)


def load_named(names: frozenset[str]) -> None:
    for path in read_paths():
        if name_of(path) in names:
            load(path)


def main() -> None:
    """`modprobe -q -- ALIAS`, as the kernel calls it (kernel/module/kmod.c)."""
    wanted = sys.argv[-1].removeprefix(FILE_SYSTEM_ALIAS).replace("-", "_")
    paths = [path for path in read_paths() if name_of(path) == wanted]
    if not paths:
        sys.exit(1)
    load(paths[0])


def read_paths() -> list[str]:
    """None where everything is built into the kernel."""
    try:
        with open(contract.GUEST_MODULES_FILE) as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def name_of(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def load(path: str) -> None:
    try:
        linux.load_module(path)
    except OSError as error:
        # EEXIST: built in, or loaded already.
        if error.errno != errno.EEXIST and error.errno not in NOT_HERE:
            raise
