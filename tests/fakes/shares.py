"""A ShareTree without mounts: those need root.  The real one: tests/integration/test_shares.py."""

from shim.machine.sandbox import Sandbox


class FakeShares:
    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.closed = False

    def move(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def close(self) -> None:
        self.closed = True
