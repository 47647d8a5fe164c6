"""A ShareTree without mounts: those need root.  The real one: tests/integration/test_shares.py."""

import os

from shim.machine.directory import SandboxDirectory
from shim.machine.shares import ShareTree


class FakeShares(ShareTree):
    def __init__(self, sandbox: SandboxDirectory) -> None:
        self.shared = os.open("/dev/null", os.O_PATH | os.O_CLOEXEC)
        self.scratch = sandbox.scratch
        self.vmm = 0

    def adopt(self, vmm: int) -> None:
        self.vmm = vmm

    def close(self) -> None:
        if self.shared >= 0:
            os.close(self.shared)
            self.shared = -1
