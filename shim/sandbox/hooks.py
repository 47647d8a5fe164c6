"""A container's hooks on the host: run at their point of its life, in the order of the spec.

OCI runtime spec 1.2 runtime.md "Lifecycle", steps 3, 4, 9 and 13.  That a poststart hook
which fails ends the container is of version 1.3, and what runc has always done.
"""

import logging
from typing import Final

from shim.errors import HostResource
from shim.host.program import Program, ProgramEnd, RunProgram
from shim.oci.hooks import Hook, HookPlan

CREATING: Final = "creating"
RUNNING: Final = "running"
STOPPED: Final = "stopped"
log = logging.getLogger(__name__)


class HostHooks:
    """Lifecycle: `run_created`, `run_started`, `run_stopped`; each at most once."""

    def __init__(self, plan: HookPlan, pid: int, run_program: RunProgram) -> None:
        """`pid`: the process of the host that is in the container's network namespace."""
        self._plan = plan
        self._pid = pid
        self._run_program = run_program
        self._begun = False

    async def run_created(self) -> None:
        """prestart and createRuntime; HostResource names the first one that fails."""
        self._begun = True
        for hook in self._plan.created:
            await self._run(hook, CREATING, self._pid)

    async def run_started(self) -> None:
        """poststart; HostResource as above."""
        for hook in self._plan.started:
            await self._run(hook, RUNNING, self._pid)

    async def run_stopped(self) -> None:
        """poststop, if the container was ever made; failures are written to the log."""
        begun, self._begun = self._begun, False
        for hook in self._plan.stopped if begun else ():
            try:
                await self._run(hook, STOPPED, 0)
            except HostResource as error:
                log.warning("%s", error)

    async def _run(self, hook: Hook, status: str, pid: int) -> None:
        program = Program(
            path=hook.path,
            args=hook.args,
            env=hook.env,
            directory=self._plan.bundle,
            stdin=self._plan.describe_state(status, pid),
            timeout_s=hook.timeout_s,
        )
        try:
            end = await self._run_program(program)
        except OSError as error:
            raise HostResource(f"{hook.field}: {hook.path}: {error.strerror}") from error
        if end.timed_out or end.code != 0:
            raise HostResource(f"{hook.field}: {hook.path}: {describe_end(hook, end)}")


def describe_end(hook: Hook, end: ProgramEnd) -> str:
    if end.timed_out:
        how = f"killed after its timeout of {hook.timeout_s} s"
    elif end.code < 0:
        how = f"ended with signal {-end.code}"
    else:
        how = f"ended with status {end.code}"
    return f"{how}: {end.output}" if end.output else how
