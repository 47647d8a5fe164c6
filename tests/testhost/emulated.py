"""One job in the emulated host: machine up, job through the channel, machine away.

Owns the run's scratch directory and, through it, every temporary file.
"""

import re
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.testhost.base import Base
from tests.testhost.initramfs import pack_initramfs
from tests.testhost.log import say
from tests.testhost.qemu import Machine, start_qemu
from tests.testhost.session import HostFailure, Job, Session, listen

CONNECT_DEADLINE_S = 30
SHOWN_CONSOLE_LINES = 60
KERNEL_DEATH = re.compile(
    r"Kernel panic|Oops[:\\s]|BUG: |general protection fault|kernel BUG at|Fatal exception"
)


@dataclass(frozen=True)
class Host:
    """What a host is started from.  Disks: base, tree, files put in, guest image if any."""

    base: Base
    disks: tuple[Path, ...]
    memory_mib: int
    scratch: Path
    console: Path


def run_emulated(host: Host, job: Job, files: BinaryIO, timeout_s: float | None) -> int:
    """The command's status.  HostFailure when the host, not the command, is at fault."""
    with ExitStack() as stack:
        channel_path = host.scratch / "job.sock"
        channel_path.unlink(missing_ok=True)
        listener = stack.enter_context(listen(channel_path))
        listener.settimeout(CONNECT_DEADLINE_S)
        qemu = start_qemu(describe_machine(host, channel_path), host.scratch)
        stack.callback(end_process, qemu)
        channel = stack.enter_context(accept(listener, qemu))
        try:
            return Session(channel, timeout_s, files).run(job)
        except HostFailure as failure:
            raise HostFailure(f"{failure}{describe_death(host.console)}") from failure


def describe_machine(host: Host, channel: Path) -> Machine:
    initramfs = host.scratch / "initramfs"
    busybox = host.base.root / "usr/bin/busybox"
    initramfs.write_bytes(pack_initramfs(busybox, host.base.modules))
    return Machine(
        kernel=host.base.kernel,
        initramfs=initramfs,
        disks=host.disks,
        channel=channel,
        console=host.console,
        memory_mib=host.memory_mib,
    )


def accept(listener, qemu: subprocess.Popen[bytes]):  # type: ignore[no-untyped-def]
    try:
        channel, _ = listener.accept()
    except TimeoutError:
        raise HostFailure(f"QEMU did not start (exit status {qemu.poll()})") from None
    channel.settimeout(None)
    return channel


def end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def describe_death(console: Path) -> str:
    """What the kernel said last, told apart from a host that just went quiet."""
    text = console.read_text(errors="replace") if console.exists() else ""
    lines = text.splitlines()
    say(f"the last lines of the host's console ({console}):")
    for line in lines[-SHOWN_CONSOLE_LINES:]:
        say(f"  | {line}")
    death = next((line.strip() for line in lines if KERNEL_DEATH.search(line)), "")
    return f": {death}" if death else ""
