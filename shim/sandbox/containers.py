"""The containers of one sandbox, and when its machine is stopped.

The machine exists from the start (or the error why there is none, which every
`create` then raises); it is stopped with the last container: when a sandbox's only
one has stopped, before that is deleted.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shim.errors import AlreadyExists, FailedPrecondition, NotFound, SampanError
from shim.host.mounts import HostMount
from shim.host.program import RunProgram
from shim.machine.bounds import change_bounds
from shim.machine.files import ContainerFiles
from shim.machine.machine import SandboxMachine
from shim.machine.shares import ShareTree
from shim.oci.cgroup import change_processors
from shim.oci.guest import HostContext
from shim.oci.hooks import plan_hooks
from shim.oci.spec import parse_resources, parse_spec
from shim.sandbox.container import (
    Container,
    ContainerPlan,
)
from shim.sandbox.creation import create_container
from shim.sandbox.events import ContainerDeleted, Listener, OutOfMemory
from shim.sandbox.hooks import HostHooks
from shim.sandbox.oom_limit import OomLimit
from shim.sandbox.plan import read_spec
from shim.sandbox.rlimits import read_rlimits
from shim.sandbox.stdio import HostStreams, ProcessStdio

CLEAN_UP_TIMEOUT_S: Final = 20.0
DISCARD_PAUSE_S: Final = 0.01
"""After an out-of-memory event that is not reported: slows a guest that floods us."""
log = logging.getLogger(__name__)


class Containers:
    """Lifecycle: `create` and `delete`, which may overlap; `close` when it is empty."""

    def __init__(
        self,
        *,
        sandbox_id: str,
        machine: SandboxMachine | SampanError,
        listener: Listener,
        run_program: RunProgram,
        shares_guest: bool = False,
        make_files: Callable[[ShareTree, str], ContainerFiles] = ContainerFiles,
    ) -> None:
        self._sandbox_id = sandbox_id
        self._machine = machine
        self._listener = listener
        self._run_program = run_program
        self._shares_guest = shares_guest
        self._make_files = make_files
        self._containers: dict[str, Container] = {}
        self._creating: dict[str, asyncio.Future[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._oom_limit = OomLimit()

    @property
    def host_pid(self) -> int:
        """The vmm's, which stands for every process on the host; 0 without a machine."""
        return self._machine.pid if isinstance(self._machine, SandboxMachine) else 0

    @property
    def is_empty(self) -> bool:
        """A container that is being created does not count: a caller that ends the
        sandbox meanwhile no longer wants it."""
        return not self._containers

    def find(self, container_id: str) -> Container:
        container = self._containers.get(container_id)
        if container is None:
            raise NotFound(f"container {container_id!r} does not exist")
        return container

    async def create(
        self, container_id: str, bundle: str, rootfs: tuple[HostMount, ...], ends: HostStreams
    ) -> Container:
        if container_id in self._containers or container_id in self._creating:
            raise AlreadyExists(f"container {container_id!r} exists already")
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._creating[container_id] = over
        try:
            container = await self._create(container_id, bundle, rootfs, ends)
            self._containers[container_id] = container
        finally:
            del self._creating[container_id]
            over.set_result(None)
        return container

    async def update(self, container_id: str, resources_json: bytes) -> None:
        """That of the sandbox's own container also changes the CPUs of the host's cgroup."""
        await self.find(container_id).update(resources_json)
        if container_id == self._sandbox_id:
            limits = change_processors(parse_resources(resources_json))
            change_bounds(self._require_machine().cgroup, limits)

    async def delete(self, container_id: str) -> Container:
        container = self.find(container_id)
        ended = await container.delete(last=self._is_last(container))
        self._containers.pop(container_id, None)
        self._oom_limit.forget(container_id)
        self._listener.handle(ContainerDeleted(container_id, ended))
        return container

    async def close(self) -> None:
        """Ends all containers that are left, then the machine."""
        for container in list(self._containers.values()):
            container.abandon()
        if isinstance(self._machine, SandboxMachine):
            await self._machine.stop()
        if self._creating:  # each fails now, and unmounts what it has mounted
            await asyncio.wait(self._creating.values(), timeout=CLEAN_UP_TIMEOUT_S)
        for container in list(self._containers.values()):
            await container.clean_up(last=True)
            await container.hooks.run_stopped()
        if self._background:
            await asyncio.wait(self._background, timeout=CLEAN_UP_TIMEOUT_S)

    async def watch_oom_kills(self) -> None:
        """Reports them to the listener, until the machine ends."""
        try:
            agent = await self._require_machine().wait_agent()
            async for container_id in agent.watch_oom_kills():
                if self._is_reportable(container_id):
                    self._listener.handle(OutOfMemory(container_id))
                else:
                    await asyncio.sleep(DISCARD_PAUSE_S)
        except SampanError as error:
            log.debug("no more out-of-memory events: %s", error)

    async def _create(
        self, container_id: str, bundle: str, rootfs: tuple[HostMount, ...], ends: HostStreams
    ) -> Container:
        machine = self._require_machine()
        spec = parse_spec(await asyncio.to_thread(read_spec, bundle))
        first = next(iter(self._containers.values()), None)
        plan = ContainerPlan(
            container_id=container_id,
            bundle=bundle,
            spec=spec,
            context=HostContext(
                bundle=bundle,
                terminal=ends.terminal,
                rlimits=read_rlimits(),
                host_pid=machine.pid,
                sandbox_guest_pid=first.guest_pid if first is not None else 0,
                shares_guest=self._shares_guest,
            ),
            rootfs=rootfs or (bind_root(spec["root"]["path"], bundle),),
            stdio=ProcessStdio(ends),
            hooks=HostHooks(plan_hooks(spec, container_id, bundle), machine.pid, self._run_program),
        )
        files = self._make_files(machine.shares, container_id)
        return await create_container(
            plan, machine, files, self._listener, on_stopped=self._handle_stopped
        )

    def _require_machine(self) -> SandboxMachine:
        if not isinstance(self._machine, SandboxMachine):
            raise self._machine
        if self._machine.ended.done():
            raise FailedPrecondition(self._machine.ended.result().reason)
        return self._machine

    def _is_reportable(self, container_id: str) -> bool:
        container = self._containers.get(container_id)
        if container is None:
            return False
        has_ended = container.init.exit is not None
        return self._oom_limit.allows(container_id, has_ended, time.monotonic())

    def _is_last(self, container: Container) -> bool:
        return not self._creating and list(self._containers.values()) == [container]

    def _handle_stopped(self, container: Container) -> None:
        """Stops a machine that nobody can use any more, before the container is deleted."""
        if container.id != self._sandbox_id or not self._is_last(container):
            return
        task = asyncio.create_task(container.clean_up(last=True))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def bind_root(root: str, bundle: str) -> HostMount:
    """Without mounts from the caller the root is an existing directory."""
    return HostMount(type="bind", source=str(Path(bundle) / root), options=("rbind", "rw"))
