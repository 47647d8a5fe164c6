"""State that a clone must not share with other clones of its template.

Spec: random(4) (RNDADDENTROPY, RNDRESEEDCRNG), linux/random.h.
"""

import fcntl
import os
import random
import socket
import struct
import time
from typing import Final

from agent.errors import InvalidArgument
from proto.contract import ENTROPY_BYTES

RNDADDENTROPY: Final = 0x40085203
RNDRESEEDCRNG: Final = 0x5207
POOL_HEADER: Final = "ii"
"""struct rand_pool_info: the entropy in bits, the bytes that follow."""
MAX_HOSTNAME_BYTES: Final = 64


def renew_identity(entropy: bytes, realtime_ns: int, hostname: str) -> None:
    """Random numbers first: another clone cannot predict anything that is made after
    it."""
    if len(entropy) != ENTROPY_BYTES:
        raise InvalidArgument(f"entropy: {len(entropy)} bytes, not {ENTROPY_BYTES}")
    if not 0 < len(hostname.encode()) <= MAX_HOSTNAME_BYTES:
        raise InvalidArgument(
            f"hostname: expected 1 to {MAX_HOSTNAME_BYTES} bytes, is {hostname!r}"
        )
    reseed(entropy)
    time.clock_settime_ns(time.CLOCK_REALTIME, realtime_ns)
    socket.sethostname(hostname)


def reseed(entropy: bytes) -> None:
    """The kernel's generator now, not at its next scheduled time; then this
    process's."""
    device = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        header = struct.pack(POOL_HEADER, len(entropy) * 8, len(entropy))
        fcntl.ioctl(device, RNDADDENTROPY, header + entropy)
        fcntl.ioctl(device, RNDRESEEDCRNG)
    finally:
        os.close(device)
    random.seed()
