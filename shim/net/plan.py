"""Plans how the guest takes over the interfaces of a network namespace.

Pure: the namespace's state in, operations for the host and interfaces for the
guest out.  Each Ethernet interface gets a tap, and every packet that arrives at
one of the two is sent out by the other: the guest has the interface's addresses,
and the namespace's own stack sees none of these packets.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from proto.network import GuestNic
from shim.errors import InvalidArgument
from shim.net.state import Interface

MAX_NICS: Final = 8
TAP_PREFIX: Final = "sampan"
"""Of our taps: recognised by name when the namespace is read again."""
FOLLOWERS: Final = ("bridge", "bond")
"""Their ports are Ethernet too: a packet that arrives at a port would be taken twice."""


@dataclass(frozen=True, slots=True)
class MakeTap:
    name: str
    mtu: int
    queues: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """Every packet that arrives at `source` is sent out by `target`; both are names."""

    source: str
    target: str


Operation = MakeTap | Redirect


@dataclass(frozen=True, slots=True)
class Join:
    """A tap of the host and the guest's interface behind it."""

    tap: str
    nic: GuestNic


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    operations: tuple[Operation, ...]
    joins: tuple[Join, ...]


def plan_network(
    links: Sequence[Interface], nics: int, queues: int = 1, joined: Collection[str] = ()
) -> NetworkPlan:
    """For a machine with `nics` of `queues` pairs each, which has the interfaces `joined`.

    InvalidArgument when there are more interfaces than nics, or when one is another
    machine's.
    """
    taken = {link.name for link in links if link.name.startswith(TAP_PREFIX)}
    wanted = [link for link in choose(links) if tap_name(link) not in taken]
    foreign = [
        link.name for link in choose(links) if tap_name(link) in taken and link.name not in joined
    ]
    if foreign:
        raise InvalidArgument(
            f"network namespace: {', '.join(foreign)}: a container in another microVM has it, and "
            "two microVMs cannot share a network namespace"
        )
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
    """Interfaces that may need a tap, judged by name only."""
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
        # A route by a gateway needs the route to that gateway first.
        routes=tuple(sorted(link.routes, key=lambda route: bool(route.gateway))),
        neighbours=link.neighbours,
    )
