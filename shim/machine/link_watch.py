"""Tells when a network namespace's interfaces or addresses have changed (rtnetlink(7)).

Clients may add an interface while a container runs, as `docker network connect` does, and
give it name, addresses and routes one after the other: so a change is told once the
namespace has been quiet for QUIET_S.  What has changed is not read here.  On the event loop.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from shim.host.netns import entered

QUIET_S: Final = 1.0
READ_BYTES: Final = 1 << 16
GROUPS: Final = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR (linux/rtnetlink.h)."""


class LinkWatch:
    """Watches as soon as it is made; `close`, idempotent."""

    def __init__(self, namespace: int, on_change: Callable[[], object]) -> None:
        """`namespace` stays the caller's."""
        self._on_change = on_change
        self._timer: asyncio.TimerHandle | None = None
        with entered(namespace):
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
        self._socket.setblocking(False)
        self._socket.bind((0, GROUPS))
        asyncio.get_running_loop().add_reader(self._socket, self._note)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
        if self._timer is not None:
            self._timer.cancel()

    def _note(self) -> None:
        try:
            self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            pass  # ENOBUFS: there were more messages than the kernel keeps
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(QUIET_S, self._on_change)
