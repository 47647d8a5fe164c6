"""Makes a template: boots a machine of the class, runs a trial container in it, saves
it, and tries a first clone.

Owns the machine, its sandbox and the directory until the template is placed;
leaves nothing of them on failure either.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from shim.config import Config
from shim.errors import AlreadyExists
from shim.host.netns import make_namespace
from shim.host.pids import is_alive, load_identity, note_process
from shim.host.reaper import Reaper
from shim.host.syscalls import enter_mount_namespace
from shim.machine.directory import SandboxDirectory, SandboxKey, find_sandbox
from shim.machine.launch import launch_machine
from shim.machine.machine import SandboxMachine
from shim.machine.namespace import PreparedNetwork
from shim.machine.request import LaunchRequest
from shim.machine.templates.identity import MachineClass, describe_class, name_class
from shim.machine.templates.store import Template, make_directory, place_template
from shim.machine.templates.trial import run_trial, try_clone

STDERR: Final = 2
IDLE_CHECK_S: Final = 3.0
"""Longer than the guest's kernel waits before it reports (mm/page_reporting.c: 2 s), and
than its agent waits with the driver."""
MAX_IDLE_CHECKS: Final = 10


def make_template_alone(config: Config, machine_class: MachineClass) -> Template:
    """As make_template; first enters a new mount namespace."""
    enter_mount_namespace()
    return asyncio.run(make_template(config, machine_class))


async def make_template(config: Config, machine_class: MachineClass) -> Template:
    """AlreadyExists while another process makes it; GuestFault if its clones do not run."""
    described = describe_class(config, machine_class)
    directory = ""
    try:
        with own_sandbox(described) as sandbox:
            directory = make_directory(config)
            async with running(config, machine_class, sandbox) as machine:
                await run_trial(machine)
                await wait_idle(machine)
                await machine.save(directory)
        with own_sandbox(described) as sandbox:
            async with running(config, machine_class, sandbox, directory) as machine:
                await try_clone(machine)
                await machine.save_working_set(directory)
        return await asyncio.to_thread(place_template, config, directory, described)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


async def wait_idle(machine: SandboxMachine) -> None:
    """Until the guest has reported its free pages: otherwise each clone would do it again."""
    told = -1
    for _ in range(MAX_IDLE_CHECKS):
        await asyncio.sleep(IDLE_CHECK_S)
        counters = await machine.read_counters()
        before, told = told, counters["devices"]["balloon"]["chains"]
        if told == before:
            return


@contextlib.contextmanager
def own_sandbox(described: dict[str, Any]) -> Iterator[SandboxDirectory]:
    """Named after the class, so that no two processes make the same one at once."""
    key = SandboxKey("sampan", "template", name_class(described))
    sandbox = find_sandbox(key)
    if os.path.exists(sandbox.path):
        remove_sandbox(sandbox)
    try:
        sandbox.create(key)
    except FileExistsError as error:
        raise AlreadyExists(f"{sandbox.path}: the same template is being made") from error
    try:
        note_process(sandbox.shim_pid, os.getpid())
        yield sandbox
    finally:
        sandbox.remove()


def remove_sandbox(sandbox: SandboxDirectory) -> None:
    """Removes what a killed maker has left; its vmm ended with its control socket."""
    maker = load_identity(sandbox.shim_pid)
    if maker is not None and is_alive(maker):
        raise AlreadyExists(f"{sandbox.path}: process {maker.pid} is making the same template")
    sandbox.remove()


@contextlib.asynccontextmanager
async def running(
    config: Config, machine_class: MachineClass, sandbox: SandboxDirectory, template: str = ""
) -> AsyncIterator[SandboxMachine]:
    network = PreparedNetwork(make_namespace(), "", machine_class.nics)
    request = LaunchRequest(config, sandbox, machine_class, STDERR, network, template, saves=True)
    launched = launch_machine(request)
    reaper = Reaper(asyncio.get_running_loop())
    machine = SandboxMachine(launched, reaper)
    try:
        yield machine
    finally:
        await machine.stop()
        reaper.close()
