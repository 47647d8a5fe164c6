"""Interfaces of a guest: what the shim plans, and the agent sets up.

The plain form of agent.proto's Nic messages, field by field.  Addresses are
texts (`10.0.0.2`, `fd00::1`), networks `10.0.0.0/24` or `default`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    address: str
    prefix_length: int
    broadcast: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table."""

    network: str
    gateway: str = ""
    source: str = ""
    scope: str = "global"
    metric: int = 0
    onlink: bool = False
    family: int = 4
    """4 or 6: which one `default` means."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A permanent neighbour entry."""

    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class GuestNic:
    nic: int
    """The interface's number in the machine, in PCI order from 0."""
    name: str
    mac: str
    mtu: int
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    """In an order in which each gateway is reachable."""
    neighbours: tuple[Neighbour, ...] = ()
