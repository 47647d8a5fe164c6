"""What a machine takes from the host by path, opened before its vmm enters the jail."""

import os
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from proto.control import MachineConfig
from shim.errors import HostResource
from shim.vmm.address_map import plan_ram
from shim.vmm.devices.serial import open_file
from shim.vmm.kernel_file import KernelFile
from shim.vmm.kvm.system import KvmSystem
from shim.vmm.snapshot import Snapshot

PAGEMAP = "/proc/self/pagemap"


class HostFiles:
    """A context manager: the machine has its own copies of what it keeps.

    HostResource, and InvalidArgument for memory that the kernel does not fit in.
    """

    def __init__(self, config: MachineConfig, clones: bool) -> None:
        """`clones`: without a usable snapshot there is no machine."""
        self.snapshot: Snapshot | None = None
        self.refusal: HostResource | None = None
        """Why there is no snapshot, if one was expected."""
        self.pagemap_fd = -1
        with ExitStack() as stack:
            self.kernel = stack.enter_context(KernelFile(config.kernel_path))
            self.kernel.check_fit(config.memory_bytes, plan_ram(config.memory_bytes)[0])
            if config.template or clones:
                self._open_snapshot(config.template, stack)
            if self.refusal is not None and clones:
                raise self.refusal
            self.system = KvmSystem()
            stack.callback(self.system.close)
            self.console_fd = open_file(config.console_path)
            stack.callback(os.close, self.console_fd)
            if config.saves:
                self.pagemap_fd = os.open(PAGEMAP, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, self.pagemap_fd)
            self._stack = stack.pop_all()

    def _open_snapshot(self, template: str, stack: ExitStack) -> None:
        try:
            self.snapshot = Snapshot(template)
        except HostResource as error:
            self.refusal = error
        else:
            stack.callback(self.snapshot.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
