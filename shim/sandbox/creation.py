"""Creates a container: streams, files, the agent's part; leaves nothing on failure."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from shim.machine.files import ContainerFiles
from shim.machine.machine import SandboxMachine
from shim.oci.guest import translate_spec
from shim.sandbox.container import Container, ContainerPlan
from shim.sandbox.events import Listener

log = logging.getLogger(__name__)


async def create_container(
    plan: ContainerPlan,
    machine: SandboxMachine,
    files: ContainerFiles,
    listener: Listener,
    *,
    on_stopped: Callable[[Container], None],
) -> Container:
    """Undoes all steps when one fails."""
    guest = translate_spec(plan.spec, plan.container_id, plan.context)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(plan.hooks.run_stopped)
        await plan.stdio.open()
        undo.callback(plan.stdio.close)
        await machine.wait_booted()
        await asyncio.to_thread(files.mount, plan.rootfs, guest.volumes)
        undo.push_async_callback(unmount, files, plan.container_id)
        await machine.until_end(plan.hooks.run_created())
        agent = await machine.wait_agent()
        container = Container(plan, machine, agent, files, listener, on_stopped=on_stopped)
        tokens = plan.stdio.join(machine)
        spec_json = json.dumps(guest.document).encode()
        call = agent.create_container(plan.container_id, spec_json, tokens)
        container.guest_pid = await machine.until_end(call)
        container.begin_watch()
        undo.pop_all()
        return container
    raise AssertionError("unreachable: nothing in the stack swallows errors")


async def unmount(files: ContainerFiles, container_id: str) -> None:
    """A failure here must not hide why there is no container."""
    try:
        await asyncio.to_thread(files.unmount)
    except OSError as error:
        log.error("container %r: %s", container_id, error)
