"""How the guest becomes the inhabitant of a network namespace.

Pure: the namespace's state in, operations for the host and interfaces for the
guest out.  Each Ethernet interface gets a tap beside it, and everything that
arrives at one leaves by the other: the guest has the interface's address on
the wire, and the namespace's own stack sees no packet of it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from proto.network import GuestNic
from shim.errors import InvalidArgument
from shim.net.state import Interface

MAX_NICS: Final = 8
TAP_PREFIX: Final = "sampan"
"""Ours; found again by name when the namespace is read once more."""
FOLLOWERS: Final = ("bridge", "bond")
"""Their ports are Ethernet too: what comes in by a port would be taken twice."""


@dataclass(frozen=True, slots=True)
class MakeTap:
    name: str
    mtu: int
    queues: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """Whatever comes in at one interface goes out at the other; both by name."""

    source: str
    target: str


Operation = MakeTap | Redirect


@dataclass(frozen=True, slots=True)
class Join:
    """A tap of the host and the interface of the guest that it becomes."""

    tap: str
    nic: GuestNic


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    operations: tuple[Operation, ...]
    joins: tuple[Join, ...]


def plan_network(links: Sequence[Interface], nics: int, queues: int = 1) -> NetworkPlan:
    """For a machine with `nics` of so many pairs of queues; what has a tap already is
    left alone.

    InvalidArgument when there are more interfaces than nics.
    """
    taken = {link.name for link in links if link.name.startswith(TAP_PREFIX)}
    wanted = [link for link in choose(links) if tap_name(link) not in taken]
    if len(taken) + len(wanted) > nics:
        names = ", ".join(link.name for link in wanted)
        raise InvalidArgument(
            f"network namespace: no room for {names}: the machine has {nics} network interfaces, "
            f"{len(taken)} of them in use"
        )
    operations: list[Operation] = []
    for link in wanted:
        tap = tap_name(link)
        operations += [MakeTap(tap, link.mtu, queues)]
        operations += [Redirect(link.name, tap), Redirect(tap, link.name)]
    joins = [
        Join(tap_name(link), describe(link, number))
        for number, link in enumerate(wanted, len(taken))
    ]
    return NetworkPlan(tuple(operations), tuple(joins))


def find_new(names: Iterable[str], joined: Collection[str]) -> list[str]:
    """Interfaces that may have to be joined, by name alone."""
    return [name for name in names if name not in joined and not name.startswith(TAP_PREFIX)]


def choose(links: Sequence[Interface]) -> list[Interface]:
    """The container's own, in the order in which they were made."""
    ours = [
        link
        for link in links
        if link.is_ethernet and not link.name.startswith(TAP_PREFIX) and link.kind not in FOLLOWERS
    ]
    return sorted(ours, key=lambda link: link.index)


def tap_name(link: Interface) -> str:
    """At most IFNAMSIZ - 1 characters."""
    return f"{TAP_PREFIX}{link.index}"


def describe(link: Interface, nic: int) -> GuestNic:
    return GuestNic(
        nic=nic,
        name=link.name,
        mac=link.mac,
        mtu=link.mtu,
        addresses=link.addresses,
        # Gateways need the way to them first.
        routes=tuple(sorted(link.routes, key=lambda route: bool(route.gateway))),
        neighbours=link.neighbours,
    )
