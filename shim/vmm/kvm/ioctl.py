"""ioctls on KVM's descriptors by name, numbers from the kernel's own headers.

Stateless.  The names are those of linux/kvm.h; native's build fails for one that
the headers do not have.
"""

from typing import Any

from native.ffi import check, ffi, lib


def kvm_ioctl(fd: int, name: str, argument: Any = 0) -> int:
    """The result, ≥ 0; OSError otherwise.  `argument`: a number or a pointer."""
    if isinstance(argument, int):
        argument = ffi.cast("void *", argument)
    return check(lib.kvm_ioctl(fd, getattr(lib, name), argument), name)
