"""A sandbox's network: the namespace that its machine is in.

Owns the namespace's descriptor and what it has added to the namespace's
interfaces.  The taps are the vmm's and end with it; the redirections on
interfaces of others (CNI) are removed, by `close`, or by
shim/machine/network_note.py for a shim that was killed.
"""

import asyncio
import logging
import os
from typing import Protocol

from proto.network import GuestNic
from shim.host.fds import close_all
from shim.host.netns import entered, list_links
from shim.host.vhost import open_vhost_net
from shim.machine.directory import SandboxDirectory
from shim.machine.namespace import PreparedNetwork
from shim.machine.network_note import release_links, write_note
from shim.net.plan import NetworkPlan, find_new, plan_network

log = logging.getLogger(__name__)


class NetworkedMachine(Protocol):
    """What a network needs of its machine."""

    async def wait_agent(self) -> object: ...

    async def attach_nic(self, nic: int, mac: str, fds: list[int]) -> None: ...

    async def configure_network(self, nics: list[GuestNic]) -> None: ...


class SandboxNetwork:
    """Lifecycle: `join` whenever a container is about to start, `close`."""

    def __init__(
        self,
        machine: NetworkedMachine,
        sandbox: SandboxDirectory,
        prepared: PreparedNetwork | None,
    ) -> None:
        self._machine = machine
        self._sandbox = sandbox
        self._prepared = prepared
        self._joined: list[str] = []
        self._lock = asyncio.Lock()

    async def join(self) -> None:
        """The guest has every interface of the namespace when it returns."""
        if self._prepared is None:
            return
        async with self._lock:
            names = await asyncio.to_thread(list_links, self._prepared.namespace)
            if not find_new(names, self._joined):
                return
            await self._machine.wait_agent()
            nics = await self._attach(self._prepared)
            if nics:
                await self._machine.configure_network(nics)

    async def close(self) -> None:
        """After the machine has ended; idempotent."""
        if self._prepared is None:
            return
        prepared, self._prepared = self._prepared, None
        try:
            if prepared.path:  # one made here ends with its last descriptor
                problems = await asyncio.to_thread(release_links, prepared.namespace, self._joined)
                for problem in problems:
                    log.error("network namespace %s: %s", prepared.path, problem)
        finally:
            os.close(prepared.namespace)

    async def _attach(self, prepared: PreparedNetwork) -> list[GuestNic]:
        plan, backends = await asyncio.to_thread(join_links, prepared)
        try:
            self._joined += [join.nic.name for join in plan.joins]
            if prepared.path:
                write_note(self._sandbox, prepared.path, self._joined)
            for join in plan.joins:
                await self._machine.attach_nic(join.nic.nic, join.nic.mac, backends[join.tap])
        finally:
            for fds in backends.values():
                close_all(fds)  # the vmm has its own copies
        return [join.nic for join in plan.joins]


def join_links(prepared: PreparedNetwork) -> tuple[NetworkPlan, dict[str, list[int]]]:
    """On a thread of its own.  The plan, and by tap the descriptors, which the caller owns:
    the tap's queues, and as many of vhost-net or none."""
    # pyroute2 imports as long as a guest boots: only where there is something to join.
    from shim.net import netlink  # noqa: PLC0415

    with entered(prepared.namespace):
        plan = plan_network(netlink.read_links(), prepared.nics, prepared.queues)
        backends = netlink.apply(plan.operations)
    if prepared.vhost:
        for fds in backends.values():
            fds.extend(open_vhost_net(prepared.queues))
    return plan, backends
