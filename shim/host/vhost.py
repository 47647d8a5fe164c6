"""The host kernel's own backend for virtio-net, where it has one."""

import logging
import os
from typing import Final

from shim.host.fds import close_all

VHOST_NET: Final = "/dev/vhost-net"

log = logging.getLogger(__name__)


def open_vhost_net(count: int) -> list[int]:
    """Descriptors, which the caller owns, one for each pair of queues; [] without vhost-net."""
    opened: list[int] = []
    try:
        for _ in range(count):
            opened.append(os.open(VHOST_NET, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        log.debug("%s: %s: packets go through the vmm", VHOST_NET, error.strerror)
        close_all(opened)
        return []
    return opened
