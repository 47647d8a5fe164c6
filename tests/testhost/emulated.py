"""The host as an emulated machine: up for one job, then thrown away.

Owns QEMU and what is written to `scratch`, which the caller removes.
"""

import re
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from tests.testhost.host import Built
from tests.testhost.initramfs import pack_initramfs
from tests.testhost.log import say
from tests.testhost.qemu import Machine, start_qemu
from tests.testhost.session import HostFailure, Job, Session

CONNECT_DEADLINE_S = 30
SHOWN_CONSOLE_LINES = 60
KERNEL_DEATH = re.compile(
    r"Kernel panic|Oops[:\s]|BUG: |general protection fault|kernel BUG at|Fatal exception"
)


class EmulatedHost:
    puts_inside = "/dev/vdc"

    def __init__(
        self, built: Built, scratch: Path, puts: Path, console: Path, memory_mib: int
    ) -> None:
        self._scratch = scratch
        initramfs = scratch / "initramfs"
        busybox = built.base.root / "usr/bin/busybox"
        initramfs.write_bytes(pack_initramfs(busybox, built.base.modules))
        self._machine = Machine(
            kernel=built.base.kernel,
            initramfs=initramfs,
            # In this order: the inside half knows them by vda, vdb, vdc, vdd.
            disks=(built.base.image, built.tree, puts, *([built.guest] if built.guest else [])),
            channel=scratch / "job.sock",
            console=console,
            memory_mib=memory_mib,
        )

    def run(self, job: Job, files: BinaryIO, timeout_s: float | None) -> int:
        with ExitStack() as stack:
            listener = stack.enter_context(listen(self._machine.channel))
            qemu = start_qemu(self._machine, self._scratch)
            stack.callback(end_process, qemu)
            channel = stack.enter_context(accept(listener, qemu))
            try:
                return Session(channel, timeout_s, files).run(job)
            except HostFailure as failure:
                ended = "" if qemu.poll() is None else f", QEMU's exit status {qemu.poll()}"
                death = explain(self._machine.console)
                raise HostFailure(f"{failure}{ended}{death}") from failure


def listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(CONNECT_DEADLINE_S)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def accept(listener: socket.socket, qemu: subprocess.Popen[bytes]) -> socket.socket:
    try:
        channel, _ = listener.accept()
    except TimeoutError:
        raise HostFailure(f"QEMU did not start (exit status {qemu.poll()})") from None
    channel.settimeout(None)
    return channel


def end_process(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def explain(console: Path) -> str:
    """Shows the console's end; returns the line with which the kernel died, if it did."""
    lines = console.read_text(errors="replace").splitlines() if console.exists() else []
    say(f"the last lines of the host's console ({console}):")
    for line in lines[-SHOWN_CONSOLE_LINES:]:
        say(f"  | {line}")
    death = next((line.strip() for line in lines if KERNEL_DEATH.search(line)), "")
    return f": {death}" if death else ""
