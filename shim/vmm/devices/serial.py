"""The guest's console: a 16550A at COM1 whose output goes to a file of bounded size.

Owns the file and the port's interrupt; the port itself is served in C.
"""

import os
from typing import Final

from native.ffi import Console, Serial, check, ffi, lib
from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import SERIAL_GSI, SERIAL_PORT
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.opaque import make_struct, take_bytes
from shim.vmm.kvm.part import Part, PartState
from shim.vmm.kvm.vm import Vm

OPEN_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
MODE: Final = 0o600


class SerialConsole(Part):
    """Attach it before vCPUs run; `close` after they have stopped, and after the bus."""

    name = "console"

    def __init__(self, vm: Vm, file_fd: int, limit_bytes: int) -> None:
        """`file_fd`: as of `open_file`; a copy of it is kept."""
        if limit_bytes < lib.CONSOLE_MIN_BYTES:
            raise InvalidArgument(
                f"console_limit_bytes is {limit_bytes}: at least {lib.CONSOLE_MIN_BYTES}"
            )
        self.console: Console = ffi.NULL
        self.port: Serial = ffi.NULL
        try:
            self.console = open_console(file_fd, limit_bytes)
            self.port = open_port(vm, self.console)
        except BaseException:
            self.close()
            raise

    def attach(self, bus: Bus) -> None:
        check(lib.serial_attach(self.port, bus.pointer, SERIAL_PORT), "serial_attach")

    def save(self) -> PartState:
        state = ffi.new("struct serial_state *")
        lib.serial_save(self.port, state)
        return {"registers": take_bytes(state)}

    def restore(self, state: PartState) -> None:
        lib.serial_restore(self.port, make_struct("struct serial_state", state["registers"]))

    def flush(self) -> None:
        """Writes to the file also a last line without its line end."""
        lib.serial_flush(self.port)

    def close(self) -> None:
        lib.serial_free(self.port)
        self.port = ffi.NULL
        lib.console_free(self.console)
        self.console = ffi.NULL


def open_file(path: str) -> int:
    """Empty, and accessible to its owner only."""
    try:
        fd = os.open(path, OPEN_FLAGS, MODE)
        os.fchmod(fd, MODE)
    except OSError as error:
        raise HostResource(f"console_path {path}: {error.strerror}") from error
    return fd


def open_console(file_fd: int, limit_bytes: int) -> Console:
    fd = os.dup(file_fd)
    console = ffi.new("struct console **")
    try:
        check(lib.console_new(fd, limit_bytes, console), "console_new")
    except BaseException:
        os.close(fd)
        raise
    opened: Console = console[0]
    return opened


def open_port(vm: Vm, console: Console) -> Serial:
    port = ffi.new("struct serial **")
    irq_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        vm.connect_irqfd(irq_fd, SERIAL_GSI)
        check(lib.serial_new(console, irq_fd, port), "serial_new")
    except BaseException:
        os.close(irq_fd)
        raise
    opened: Serial = port[0]
    return opened
