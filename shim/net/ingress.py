"""Removes an interface's ingress qdisc, and with it every filter on it.

One message of rtnetlink(7), encoded here: `delete` has a few seconds for all
that a dead shim has left, and pyroute2's import would take most of them.
"""

import os
import socket
import struct
from collections.abc import Iterable
from typing import Final

RTM_DELQDISC: Final = 37  # linux/rtnetlink.h
FLAGS: Final = 0x05  # NLM_F_REQUEST | NLM_F_ACK
HANDLE: Final = 0xFFFF0000
"""Of an ingress qdisc, as `ffff:` of tc(8)."""
PARENT: Final = 0xFFFFFFF1  # linux/pkt_sched.h: TC_H_INGRESS
HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
TRAFFIC: Final = struct.Struct("=BxxxiIII")  # struct tcmsg
ERROR: Final = struct.Struct("=i")  # struct nlmsgerr's first
MAX_ANSWER_BYTES: Final = 4096


def drop_ingress(names: Iterable[str]) -> list[str]:
    """In the calling thread's namespace.  Returns what could not be done; interfaces
    that are gone need nothing."""
    problems = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        for name in names:
            try:
                index = socket.if_nametoindex(name)
            except OSError:
                continue
            error = delete_qdisc(netlink, index)
            if error:
                problems.append(f"{name}: {os.strerror(error)}")
    return problems


def delete_qdisc(netlink: socket.socket, index: int) -> int:
    """0, or an errno."""
    length = HEADER.size + TRAFFIC.size
    message = HEADER.pack(length, RTM_DELQDISC, FLAGS, 1, 0)
    netlink.send(message + TRAFFIC.pack(socket.AF_UNSPEC, index, HANDLE, PARENT, 0))
    answer = netlink.recv(MAX_ANSWER_BYTES)
    return -int(ERROR.unpack_from(answer, HEADER.size)[0])
