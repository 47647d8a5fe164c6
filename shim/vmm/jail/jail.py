"""The jail of this process: entered before its first thread, restricted before a guest runs.

Entering gives it a root with the shares of one machine only, in namespaces of its own;
restricting takes from each thread what its kind does not need: capabilities, system calls,
and, as a second barrier behind the root, paths (Landlock).  The reasons are in
docs/security.md.  C code does the work (native/src/jail.h): each thread has to restrict
itself.
"""

import errno
from typing import Final

from native.ffi import check, ffi, lib
from proto.control import JailMode
from shim.errors import HostResource
from shim.vmm.jail.calls import Kind, keep_capabilities
from shim.vmm.jail.filters import INSTRUCTION_BYTES, make_filters

ALL_CAPABILITIES: Final = (1 << 64) - 1
NONE: Final = -1


class Jail:
    """Lifecycle: `enter`, `prepare`, threads, `restrict`, the guest; `release` and `prepare` again
    if a machine could not be built."""

    def __init__(self, mode: JailMode, saves: bool) -> None:
        """`saves`: the machine is to become a template."""
        self._mode = mode
        self._saves = saves

    def enter(self, tree_fd: int, image_path: str, root_path: str) -> None:
        """Needed in every mode: file servers find the shares there.  Does not own `tree_fd`."""
        entered = lib.jail_enter(tree_fd, image_path.encode(), root_path.encode())
        try:
            check(entered, "jail")
        except OSError as error:
            raise HostResource(f"the vmm's jail: {error.strerror}") from error

    def prepare(self) -> None:
        """Threads that are made from now on wait until the restriction, or until `release`."""
        lib.jail_prepare()

    def restrict(self, network_fd: int = NONE) -> None:
        """Restricts all threads, and moves them into the network namespace `network_fd`, if given.

        After an error the process has to end: some of its threads may be restricted.
        """
        rules = ffi.new("struct jail_rules[]", lib.JAIL_KINDS)
        if self._mode is JailMode.OFF:
            for kind in Kind:
                rules[kind].capabilities = ALL_CAPABILITIES
        else:
            filters = make_filters(self._saves, logs=self._mode is JailMode.LOG)
            for kind in Kind:
                # Lifetime: later threads need it too; `make_filter` keeps it.
                rules[kind].filter = ffi.from_buffer("uint8_t[]", filters[kind])
                rules[kind].instructions = len(filters[kind]) // INSTRUCTION_BYTES
                rules[kind].capabilities = keep_capabilities(kind)
        try:
            check(lib.jail_restrict(rules, self.open_landlock(), network_fd), "restrict")
        except OSError as error:
            raise HostResource(f"the vmm's jail: {error.strerror}") from error

    def open_landlock(self) -> int:
        """A descriptor, or -1 if the kernel has no Landlock."""
        if self._mode in (JailMode.OFF, JailMode.LOG):
            return NONE
        made = lib.jail_landlock()
        if made == -errno.EOPNOTSUPP and self._mode is not JailMode.REQUIRE:
            return NONE
        return check(made, "Landlock")

    def release(self) -> None:
        """Lets waiting threads continue, so that they can be stopped."""
        lib.jail_release()
