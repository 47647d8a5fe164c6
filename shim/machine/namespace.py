"""The network namespace that a machine is to be in, opened before there is a machine.

Synchronous, and imports little: see shim/machine/launch.py.
"""

import os
from dataclasses import dataclass

from proto.control import count_pairs
from shim.config import Config
from shim.host.netns import list_links, make_namespace, open_namespace
from shim.machine.templates.identity import MachineClass
from shim.net.plan import MAX_NICS


@dataclass(frozen=True, slots=True)
class PreparedNetwork:
    """A machine's network: the namespace that its vmm is in, as an open descriptor."""

    namespace: int
    path: str
    """Of somebody else's; "" for one made here."""
    nics: int
    queues: int = 1
    """Pairs of them for each."""
    vhost: bool = False
    """The host's kernel moves the packets, if it can."""


def count_nics(path: str | None, config: Config) -> int:
    """Of a machine in the namespace `path`; "" is a new one, None no network."""
    if path is None:
        return 0
    found = 0
    if path:
        namespace = open_namespace(path)
        try:
            found = len(list_links(namespace))
        finally:
            os.close(namespace)
    return min(max(config.nics, found), MAX_NICS)


def prepare_network(
    path: str | None, config: Config, machine_class: MachineClass
) -> PreparedNetwork | None:
    """As count_nics has it; None for a container that is to have none of its own."""
    if path is None:
        return None
    namespace = open_namespace(path) if path else make_namespace()
    pairs = count_pairs(machine_class.size.vcpus)
    vhost = config.vhost_net == "auto"
    return PreparedNetwork(namespace, path, machine_class.nics, pairs, vhost)
