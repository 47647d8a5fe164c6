"""A sandbox's network: the namespace that its machine is in.

Owns the namespace's descriptor, what it has added to the namespace's interfaces, the
relay to its name server, and what brings connections to its localhost to the guest.  The
taps are the vmm's and end with it; the redirections on interfaces of others (CNI) are
removed, by `close`, or by shim/machine/network_note.py for a shim that was killed.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Collection, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from proto.control import Direction
from proto.network import GuestNic
from shim.errors import SampanError
from shim.host.fds import close_all
from shim.host.netns import entered, list_links
from shim.host.vhost import open_vhost_net
from shim.machine.directory import SandboxDirectory
from shim.machine.forward import LoopbackForward
from shim.machine.link_watch import LinkWatch
from shim.machine.names import ADDRESS, NameRelay, find_name_server
from shim.machine.namespace import PreparedNetwork
from shim.machine.network_note import release_links, write_note
from shim.machine.streams import Stream
from shim.net.plan import NetworkPlan, find_new, plan_network

if TYPE_CHECKING:
    from shim.guest.client import AgentClient

log = logging.getLogger(__name__)


class NetworkedMachine(Protocol):
    """What a network needs of its machine."""

    async def wait_agent(self) -> "AgentClient": ...

    async def until_end(self, work: Coroutine[Any, Any, None]) -> None: ...

    async def attach_nic(self, nic: int, mac: str, fds: list[int]) -> None: ...

    def open_stream(self, descriptor: int, direction: Direction, token: str) -> Stream: ...


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
        self._names: NameRelay | None = None
        self._forward: LoopbackForward | None = None
        self._opening: asyncio.Task[None] | None = None
        self._wants_forward = True
        self._watch: LinkWatch | None = None
        self._following: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def join(self) -> None:
        """The guest has every interface of the namespace when it returns, and its name
        server on a loopback address.  Later changes are followed."""
        if self._prepared is None:
            return
        if self._watch is None:
            self._watch = LinkWatch(self._prepared.namespace, self._follow)
        if self._wants_forward and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._open_forward(self._prepared))
        async with self._lock:
            await self._update(self._prepared)

    async def _update(self, prepared: PreparedNetwork) -> None:
        names = await asyncio.to_thread(list_links, prepared.namespace)
        if gone := [nic for nic, name in enumerate(self._joined) if name and name not in names]:
            await self._leave_links(gone)
        if find_new(names, self._joined):
            await self._join_new(prepared)
        if self._names is None and find_name_server(prepared.namespace):
            await self._serve_names(prepared)

    async def _open_forward(self, prepared: PreparedNetwork) -> None:
        """Beside the container's start, which does not wait for it; again at the next change of
        the network if lo is still down."""
        forward = LoopbackForward(prepared.namespace, self._machine)
        try:
            await asyncio.to_thread(forward.attach)
        except OSError as error:
            self._wants_forward = error.errno == errno.EADDRNOTAVAIL
            if not self._wants_forward:
                log.warning("connections to localhost are not forwarded: %s", error)
        else:
            self._forward, self._wants_forward = forward, False
            forward.serve()

    def _follow(self) -> None:
        task = asyncio.create_task(self._follow_change())
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _follow_change(self) -> None:
        """Of a container that runs: nobody waits for the result."""
        try:
            await self.join()
        except (SampanError, OSError) as error:
            log.warning("a change of the network is not followed: %s", error)

    async def close(self) -> None:
        """After the machine has ended; idempotent."""
        if self._prepared is None:
            return
        prepared, self._prepared = self._prepared, None
        if self._watch is not None:
            self._watch.close()
        for task in self._following:
            task.cancel()
        if self._names is not None:
            self._names.close()
        if self._opening is not None:
            await asyncio.wait({self._opening})
        if self._forward is not None:
            self._forward.close()
        try:
            if prepared.path:  # one made here ends with its last descriptor
                left = [name for name in self._joined if name]
                problems = await asyncio.to_thread(release_links, prepared.namespace, left)
                for problem in problems:
                    log.error("network namespace %s: %s", prepared.path, problem)
        finally:
            os.close(prepared.namespace)

    async def _join_new(self, prepared: PreparedNetwork) -> None:
        agent = await self._machine.wait_agent()
        nics = await self._attach(prepared)
        if nics:
            await self._machine.until_end(agent.configure_network(nics))

    async def _leave_links(self, gone: list[int]) -> None:
        """Their interfaces of the machine are not used again."""
        agent = await self._machine.wait_agent()
        await self._machine.until_end(agent.configure_network([], gone))
        for nic in gone:
            self._joined[nic] = ""

    async def _serve_names(self, prepared: PreparedNetwork) -> None:
        agent = await self._machine.wait_agent()
        self._names = NameRelay(prepared.namespace)
        questions, answers = self._names.open(self._machine.open_stream)
        await self._machine.until_end(agent.serve_names(ADDRESS, questions, answers))

    async def _attach(self, prepared: PreparedNetwork) -> list[GuestNic]:
        plan, backends = await asyncio.to_thread(join_links, prepared, self._joined)
        try:
            self._joined += [join.nic.name for join in plan.joins]
            if prepared.path:
                write_note(self._sandbox, prepared.path, [name for name in self._joined if name])
            for join in plan.joins:
                await self._machine.attach_nic(join.nic.nic, join.nic.mac, backends[join.tap])
        finally:
            for fds in backends.values():
                close_all(fds)  # the vmm has its own copies
        return [join.nic for join in plan.joins]


def join_links(
    prepared: PreparedNetwork, joined: Collection[str] = ()
) -> tuple[NetworkPlan, dict[str, list[int]]]:
    """On a thread of its own.  The plan, and by tap the descriptors, which the caller owns:
    the tap's queues, and as many of vhost-net or none."""
    # pyroute2 imports as long as a guest boots: only where there is something to join.
    from shim.net import netlink  # noqa: PLC0415

    with entered(prepared.namespace):
        plan = plan_network(netlink.read_links(), prepared.nics, prepared.queues, joined)
        backends = netlink.apply(plan.operations)
    if prepared.vhost:
        for fds in backends.values():
            fds.extend(open_vhost_net(prepared.queues))
    return plan, backends
