"""The guest's own links.  Only lo so far; others are the shim's to ask for.

By ioctl (netdevice(7)): a netlink library would cost more than all the rest of
the guest's set-up.
"""

import fcntl
import socket
import struct
from typing import Final

SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 1  # linux/if.h
IFREQ: Final = struct.Struct("16sh22x")


def bring_up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = IFREQ.pack(name.encode(), 0)
        _, flags = IFREQ.unpack(fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, IFREQ.pack(name.encode(), flags | IFF_UP))
