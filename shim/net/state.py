"""What is in a network namespace, as far as a container's network is concerned.

Pure data: read by shim/net/netlink.py, used by shim/net/plan.py.
"""

from dataclasses import dataclass

from proto.network import Address, Neighbour, Route


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    index: int
    kind: str
    """As `ip -d link` says: veth, macvlan, tun …; "" for hardware and lo."""
    is_ethernet: bool
    mac: str
    mtu: int
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
