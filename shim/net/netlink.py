"""The kernel's side of a container's network: reads a namespace, and applies a plan.

The only importer of pyroute2, which takes as long to import as a guest to boot:
only on a thread beside the boot, and only where a namespace has an interface.
Everything here runs in the thread that has entered the namespace.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Any, Final

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from proto.network import Address, Neighbour, Route
from shim.errors import HostResource
from shim.host.fds import close_all
from shim.net.ingress import HANDLE, drop_ingress
from shim.net.plan import MakeTap, Operation, Redirect
from shim.net.state import Interface

ARPHRD_ETHER: Final = 1
TUN_DEVICE: Final = "/dev/net/tun"
TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
TUNSETVNETHDRSZ: Final = 0x400454D8
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
IFF_MULTI_QUEUE: Final = 0x0100
IFF_VNET_HDR: Final = 0x4000
VNET_HEADER_BYTES: Final = 12
"""struct virtio_net_hdr_v1."""
IFREQ: Final = struct.Struct("16sH22x")

MAIN_TABLE: Final = 254
UNICAST: Final = 1
RTNH_F_ONLINK: Final = 4
NUD_PERMANENT: Final = 0x80
SCOPE_GLOBAL: Final = 0
SCOPES: Final = {SCOPE_GLOBAL: "global", 253: "link", 254: "host"}
RTPROT_KERNEL: Final = 2
"""Routes that come with an address: the guest's kernel makes its own."""
ETH_P_ALL: Final = 0x0003
MATCH_ALL: Final = ["0x0/0x0+0"]
FLOW: Final = 0x10000


def read_links() -> list[Interface]:
    with IPRoute() as netlink:
        addresses = list(netlink.get_addr())
        routes = [route for route in netlink.get_routes(table=MAIN_TABLE) if is_given(route)]
        neighbours = [entry for entry in netlink.get_neighbours() if is_permanent(entry)]
        return [
            Interface(
                name=link.get("ifname"),
                index=link["index"],
                kind=link.get(("linkinfo", "kind")) or "",
                is_ethernet=link["ifi_type"] == ARPHRD_ETHER,
                mac=link.get("address") or "",
                mtu=link.get("mtu"),
                addresses=tuple(
                    read_address(entry)
                    for entry in addresses
                    if entry["index"] == link["index"] and entry["scope"] == SCOPE_GLOBAL
                ),
                routes=tuple(
                    read_route(route) for route in routes if route.get("oif") == link["index"]
                ),
                neighbours=tuple(
                    Neighbour(entry.get("dst"), entry.get("lladdr"))
                    for entry in neighbours
                    if entry["ifindex"] == link["index"]
                ),
            )
            for link in netlink.get_links()
        ]


def is_given(route: Any) -> bool:
    return bool(route["type"] == UNICAST and route["proto"] != RTPROT_KERNEL)


def is_permanent(entry: Any) -> bool:
    return bool(entry["state"] == NUD_PERMANENT and entry.get("lladdr"))


def read_address(entry: Any) -> Address:
    return Address(
        entry.get("local") or entry.get("address"),
        entry["prefixlen"],
        entry.get("broadcast") or "",
    )


def read_route(route: Any) -> Route:
    target = route.get("dst")
    return Route(
        network=f"{target}/{route['dst_len']}" if target else "default",
        gateway=route.get("gateway") or "",
        source=route.get("prefsrc") or "",
        scope=SCOPES.get(route["scope"], "global"),
        metric=route.get("priority") or 0,
        onlink=bool(route["flags"] & RTNH_F_ONLINK),
        family=4 if route["family"] == socket.AF_INET else 6,
    )


def apply(operations: Iterable[Operation]) -> dict[str, list[int]]:
    """The taps' queues by name, descriptors which the caller owns.  Undone on failure."""
    taps: dict[str, list[int]] = {}
    with IPRoute() as netlink, ExitStack() as undo:
        for operation in operations:
            try:
                match operation:
                    case MakeTap(name, mtu, queues):
                        taps[name] = make_tap(name, queues)
                        undo.callback(close_all, taps[name])
                        quiet_tap(name)
                        netlink.link("set", index=find(netlink, name), mtu=mtu, state="up")
                    case Redirect(source, target):
                        redirect(netlink, source, target)
                        undo.callback(drop_ingress, [source])
            except (OSError, NetlinkError) as error:
                raise HostResource(f"network: {operation}: {error}") from error
        undo.pop_all()
    return taps


def make_tap(name: str, queues: int) -> list[int]:
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if queues > 1 else 0)
    opened: list[int] = []
    try:
        for _ in range(queues):
            fd = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            opened.append(fd)
            fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags))
            fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_HEADER_BYTES))
    except OSError:
        close_all(opened)
        raise
    return opened


def quiet_tap(name: str) -> None:
    """The host has no address on it, and sends nothing through it."""
    path = f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6"
    with suppress(FileNotFoundError), open(path, "w", encoding="ascii") as file:
        file.write("1")


def find(netlink: IPRoute, name: str) -> int:
    found = netlink.link_lookup(ifname=name)
    if not found:
        raise OSError(f"{name}: no such interface")
    index: int = found[0]
    return index


def redirect(netlink: IPRoute, source: str, target: str) -> None:
    """By u32, not matchall: older kernels and small configurations have it."""
    index = find(netlink, source)
    (link,) = netlink.get_links(index)
    netlink.tc("add", "ingress", index)
    if link.get("txqlen") == 0:  # as CNI makes it; the first qdisc changes it
        netlink.link("set", index=index, txqlen=0)
    netlink.tc(
        "add-filter",
        "u32",
        index,
        parent=HANDLE,
        prio=1,
        protocol=ETH_P_ALL,
        target=FLOW,
        keys=MATCH_ALL,
        action=[
            {
                "kind": "mirred",
                "direction": "egress",
                "action": "redirect",
                "ifindex": find(netlink, target),
            }
        ],
    )
