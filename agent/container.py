"""A container: its init process, its execs, and crun's state of it.

Owns the bundle directory, the Processes and the crun state of one id.  Order:
create(), start(), execs, the end, delete().  Runs in the event loop; several calls
may be in flight at once, and the states decide what is allowed.
"""

import asyncio
import json
import os
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

from agent import shares
from agent.cgroup import Cgroup, write_file
from agent.console import say
from agent.crun import Crun, remove_file
from agent.errors import (
    AgentError,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from agent.lifecycle import State, Step
from agent.oom import OomWatch
from agent.process import Process
from agent.reaper import Exit, Reaper
from agent.spec import ContainerSpec, ProcessSpec
from agent.stdio import StdioRequest
from agent.streams import Streams
from agent.watch import FileWatch
from proto import contract


class SharedParts(NamedTuple):
    """The parts of the agent that all its containers use."""

    reaper: Reaper
    crun: Crun
    streams: Streams
    files: FileWatch
    oom: OomWatch
    bundles_dir: str
    cgroup_root: str


class GuestContainer:
    def __init__(
        self, container_id: str, spec: ContainerSpec, request: StdioRequest, parts: SharedParts
    ) -> None:
        self.id = container_id
        self.cgroup = Cgroup(parts.cgroup_root, spec.cgroup_path)
        self._spec = spec
        self._parts = parts
        self._bundle = f"{parts.bundles_dir}/{container_id}"
        self._init = Process(f"container {container_id}", spec.init, request, State.CREATING)
        self._execs: dict[str, Process] = {}
        self._followers: set[asyncio.Task[None]] = set()
        self._deletion = asyncio.Lock()
        self._bundle_written = False

    async def create(self) -> int:
        """On failure nothing is left."""
        parts, init = self._parts, self._init
        try:
            init.stdio.expect(parts.streams)
            await init.stdio.connect(parts.streams)
            self._write_bundle()
            with parts.reaper.adoption():
                await init.launch(parts.crun, "create", f"--bundle={self._bundle}", self.id)
                end = parts.reaper.claim(init.pid)
        except BaseException:
            await self._remove_leftovers()
            raise
        init.step(Step.CREATE)
        init.stdio.start()
        parts.oom.add(self.id, self.cgroup)
        self._follow(self._finish_init(end))
        return init.pid

    async def start(self) -> int:
        init = self._init
        init.step(Step.START)
        try:
            await self._parts.crun.run(["start", self.id], program=self._spec.init.program)
        except AgentError:
            if init.state is State.STARTING:
                init.step(Step.REFUSE)
            raise
        if init.state is State.STARTING:  # not if it has ended already
            init.step(Step.STARTED)
        return init.pid

    def add_exec(self, exec_id: str, spec: ProcessSpec, request: StdioRequest) -> None:
        if exec_id in self._execs:
            raise AlreadyExists(f"exec {exec_id} of container {self.id} exists")
        self._check_alive()
        name = f"exec {exec_id} of container {self.id}"
        process = Process(name, spec, request, State.CREATED)
        process.stdio.expect(self._parts.streams)
        self._execs[exec_id] = process

    async def start_exec(self, exec_id: str) -> int:
        parts, process = self._parts, self.find(exec_id)
        self._check_alive()
        if self.cgroup.is_frozen():
            raise FailedPrecondition(f"cannot start {process.name}: the container is paused")
        process.step(Step.START)
        document = parts.crun.temporary_path("json")
        try:
            await process.stdio.connect(parts.streams)
            write_file(document, json.dumps(process.spec.document))
            with parts.reaper.adoption():
                await process.launch(
                    parts.crun, "exec", "--detach", f"--process={document}", self.id
                )
                end = parts.reaper.claim(process.pid)
        except BaseException as error:
            process.step(Step.ABANDON)
            process.give_up()
            program = process.spec.program
            # crun 1.21 reports "not found" for a file that is not executable.
            if isinstance(error, NotFound) and self._has_file(program):
                raise InvalidArgument(f'exec: "{program}": permission denied') from error
            raise
        finally:
            remove_file(document)
        process.step(Step.STARTED)
        process.stdio.start()
        self._follow(self._finish_exec(process, end))
        if not self._init.alive:
            self.cgroup.kill()  # it may have joined the cgroup after the others were killed
        return process.pid

    def find(self, exec_id: str) -> Process:
        """The init process for ""."""
        if not exec_id:
            return self._init
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFound(f"no exec {exec_id} in container {self.id}") from None

    def signal_all(self, number: int) -> None:
        self._init.check_signal(number)
        if number == signal.SIGKILL:
            self.cgroup.kill()
            return
        for pid in self.cgroup.list_processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    async def set_paused(self, paused: bool) -> None:
        self._check_alive()
        await self.cgroup.set_frozen(paused, self._parts.files)

    async def update(self, resources: dict[str, Any]) -> None:
        self._check_alive()
        crun = self._parts.crun
        document = crun.temporary_path("json")
        try:
            write_file(document, json.dumps(resources))
            await crun.run(["update", f"--resources={document}", self.id])
        finally:
            remove_file(document)

    def delete_exec(self, exec_id: str) -> Exit:
        process = self.find(exec_id)
        process.step(Step.DELETE)
        del self._execs[exec_id]
        self._discard(process)
        return process.stopped.result()

    async def delete(self) -> Exit:
        async with self._deletion:
            init = self._init
            if init.state is State.CREATED:
                init.signal(signal.SIGKILL)
                await asyncio.shield(init.stopped)
            if init.state is not State.STOPPED:
                init.step(Step.DELETE)  # raises, and names the state
            await self._parts.crun.run(["delete", "--force", self.id])
            init.step(Step.DELETE)
            await self._remove_leftovers()
            return init.stopped.result()

    async def end(self) -> None:
        """Kills all of it and waits for its end."""
        self.cgroup.kill()
        if self._init.pid:
            await asyncio.shield(self._init.stopped)

    async def _remove_leftovers(self) -> None:
        parts = self._parts
        parts.oom.remove(self.id)
        if self._init.state is State.CREATING and self._bundle_written:
            with suppress(AgentError):  # crun may have failed before or after it made the container
                await parts.crun.run(["delete", "--force", self.id])
        for process in [self._init, *self._execs.values()]:
            self._discard(process)
        self._execs.clear()
        remove_file(f"{self._bundle}/config.json")
        with suppress(FileNotFoundError):
            os.rmdir(self._bundle)

    def _has_file(self, path: str) -> bool:
        """Looks as the container's processes do, unless a link in `path` is
        absolute."""
        return path.startswith("/") and os.path.exists(f"/proc/{self._init.pid}/root{path}")

    def _discard(self, process: Process) -> None:
        process.stdio.forget(self._parts.streams)
        process.give_up()

    def _check_alive(self) -> None:
        if not self._init.alive:
            raise FailedPrecondition(f"container {self.id} is {self._init.state.value}")

    def _write_bundle(self) -> None:
        self._bundle_written = True
        os.makedirs(self._bundle, mode=0o700)
        write_file(f"{self._bundle}/config.json", json.dumps(self._spec.document))

    async def _flush_shares(self) -> None:
        """Afterwards the host may read the files, or end the guest."""
        paths = self._spec.shared_paths
        try:
            # Called also without paths: a template's clones then have the pages that
            # this needs in memory.
            if shares.has_unwritten_pages() and paths:
                await asyncio.to_thread(shares.flush, paths)
        except OSError as error:
            say(f"container {self.id}: {error}")

    def _follow(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._followers.add(task)
        task.add_done_callback(self._unfollow)

    def _unfollow(self, task: asyncio.Task[None]) -> None:
        self._followers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            say(f"container {self.id}: {error!r}")

    async def _finish_exec(self, process: Process, end: "asyncio.Future[Exit]") -> None:
        status = await end
        process.step(Step.EXIT)
        await process.finish(status, drain_fully=not self._init.alive)

    async def _finish_init(self, end: "asyncio.Future[Exit]") -> None:
        """The end of init is the container's end: those of the other processes are
        reported before it."""
        status = await end
        self._init.step(Step.EXIT)
        self._parts.oom.check(self.id, self.cgroup)
        self.cgroup.kill()  # a shared pid namespace outlives this container
        ends = [process.stopped for process in self._execs.values() if process.pid]
        if ends:
            await asyncio.wait(ends, timeout=contract.DRAIN_TIMEOUT_S)
        await self._flush_shares()
        await self._init.finish(status, drain_fully=True)
