"""The network namespace of a machine, opened before there is a machine.

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
    """The path of an existing one; "" for one made here."""
    nics: int
    queues: int = 1
    """Pairs of queues for each NIC."""
    vhost: bool = False
    """Whether the host's kernel moves the packets."""


def count_nics(path: str | None, config: Config) -> int:
    """For a machine in the namespace `path`; "" is a new one, None no network."""
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
    """`path`: as in count_nics.  None for a container without a network of its own."""
    if path is None:
        return None
    namespace = open_namespace(path) if path else make_namespace()
    pairs = count_pairs(machine_class.size.vcpus)
    vhost = config.vhost_net == "auto"
    return PreparedNetwork(namespace, path, machine_class.nics, pairs, vhost)
