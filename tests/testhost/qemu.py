"""The emulated machine as a child process.

Owns the QEMU process.  The command line is the one that was found to be
reliable: several TCG threads and two CPUs are needed, with fewer nested guests
hang waiting for an interrupt.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.testhost.tools import QEMU

PORT_NAME = "sampan.job"
# An oops ends the machine: QEMU exits (-no-reboot), and what follows an oops
# would be no test result.  The TSC stays the clock however busy this machine is, as on
# hardware: without it KVM gives guests no clock.
KERNEL_ARGUMENTS = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic nowatchdog tsc=reliable"


@dataclass(frozen=True)
class Machine:
    """What the machine is made of.  Disks are never written: QEMU keeps changes apart."""

    kernel: Path
    initramfs: Path
    disks: tuple[Path, ...]
    channel: Path
    console: Path
    memory_mib: int


def command_line(machine: Machine) -> list[str]:
    command = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    command += ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
    command += ["-m", str(machine.memory_mib), "-kernel", str(machine.kernel)]
    command += ["-initrd", str(machine.initramfs), "-append", KERNEL_ARGUMENTS]
    for number, disk in enumerate(machine.disks):
        drive = f"file={disk},format=raw,if=none,id=disk{number},snapshot=on,cache=unsafe"
        command += ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}"]
    command += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
    command += ["-chardev", f"socket,id=job,path={machine.channel}"]
    command += ["-device", f"virtserialport,chardev=job,name={PORT_NAME}"]
    return [*command, "-serial", f"file:{machine.console}", "-monitor", "none"]


def start_qemu(machine: Machine, scratch: Path) -> subprocess.Popen[bytes]:
    """`scratch` takes what the host writes to its disks."""
    # Its own session: Ctrl-C is ours to handle.  The death signal: QEMU must not
    # outlive us, even if we are killed.
    command = ["setpriv", "--pdeathsig", "KILL", *command_line(machine)]
    return subprocess.Popen(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=2,
        start_new_session=True,
    )
