"""fs-verity: a file that can no longer be changed, with a digest that the kernel checks.

Spec: Linux Documentation/filesystems/fsverity.rst, linux/fsverity.h.
"""

import fcntl
import struct
from typing import Final

FS_IOC_ENABLE_VERITY: Final = 0x40806685
FS_IOC_MEASURE_VERITY: Final = 0xC0046686
SHA256: Final = 1
BLOCK_BYTES: Final = 4096
MAX_DIGEST_BYTES: Final = 64
ENABLE: Final = struct.pack("=4I3Q88x", 1, SHA256, BLOCK_BYTES, 0, 0, 0, 0)
"""struct fsverity_enable_arg: version 1, no salt, no signature."""
DIGEST: Final = struct.Struct("=2H")
"""struct fsverity_digest: algorithm, size; the digest follows."""


def enable_verity(fd: int) -> bool:
    """False where the file system has none.  `fd` must be open for reading alone, and no
    descriptor of the file for writing.  The kernel reads the whole file."""
    try:
        fcntl.ioctl(fd, FS_IOC_ENABLE_VERITY, ENABLE)
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def measure_verity(fd: int) -> str:
    """The digest in hexadecimal, which the kernel has at hand; "" for a file without one."""
    request = DIGEST.pack(0, MAX_DIGEST_BYTES) + bytes(MAX_DIGEST_BYTES)
    try:
        answer = fcntl.ioctl(fd, FS_IOC_MEASURE_VERITY, request)
    except OSError:
        return ""
    _, size = DIGEST.unpack_from(answer)
    return answer[DIGEST.size : DIGEST.size + size].hex()
