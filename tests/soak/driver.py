"""Carries a step out and says what was wrong with the answer.

Through ctr, but for updates, which it does not have: those go to the shim over
ttrpc, as containerd's would.
"""

import json
import re
from typing import Final

from shim.ttrpc.status import StatusError
from tests.e2e.ctr import BUSYBOX, Ctr, Finished
from tests.e2e.shim_client import update
from tests.soak.model import TERM_STATUS, Action, Model, Modelled, Step, read_limit

PROGRAM: Final = f"trap 'exit {TERM_STATUS}' TERM; while :; do sleep 1 & wait $!; done"


class Driver:
    def __init__(self, ctr: Ctr) -> None:
        self._ctr = ctr

    def check(self, step: Step, model: Model) -> str:
        """Carries it out; "" or what differs from what the model expects."""
        expected = model.succeeds(step)
        done = self._run(step)
        if (wrong := judge(step, done, expected=expected)) or not expected:
            return wrong
        before = model.containers.get(step.name)
        model.apply(step)
        return self._follow(step, done, before, model)

    def compare_list(self, model: Model) -> str:
        """`ctr task ls` beside the model."""
        listed = {name: status for name, (_, status) in self._ctr.list_tasks().items()}
        wanted = {name: str(container.state) for name, container in model.containers.items()}
        return "" if listed == wanted else f"task ls: {listed}, expected {wanted}"

    def _run(self, step: Step) -> Finished:
        ctr, name = self._ctr, step.name
        match step.action:
            case Action.START:
                arguments = ctr.run_arguments(BUSYBOX, name, ("--detach",))
                return ctr.command(*arguments, "sh", "-c", PROGRAM)
            case Action.EXEC:
                return ctr.shell(name, f"echo n{step.number}; exit {step.number}")
            case Action.TERMINATE:
                return ctr.kill(name, "SIGTERM")
            case Action.KILL:
                return ctr.kill(name)
            case Action.METRICS:
                return ctr.command("task", "metrics", "--format", "json", name)
            case Action.UPDATE:
                return update_limit(name, read_limit(step))
            case Action.DELETE:
                return ctr.command("task", "delete", name)
            case Action.PAUSE | Action.RESUME:
                return ctr.command("task", str(step.action), name)

    def _follow(self, step: Step, done: Finished, before: Modelled | None, model: Model) -> str:
        """What can only be seen once a step has succeeded."""
        if step.action in (Action.TERMINATE, Action.KILL):
            self._ctr.wait_status(step.name, "STOPPED")
        elif step.action is Action.DELETE:
            self._ctr.command("container", "rm", step.name)
            assert before is not None
            return check_exit(done, before)
        elif step.action is Action.METRICS:
            return check_limit(done, model.containers[step.name])
        return ""


def judge(step: Step, done: Finished, *, expected: bool) -> str:
    if step.action is Action.EXEC and expected:
        if (done.status, done.stdout) != (step.number, f"n{step.number}\n"):
            return f"expected n{step.number} and that status: {done}"
        return ""
    if (done.status == 0) is not expected:
        return f"expected {'success' if expected else 'a refusal'}: {done}"
    return ""


def check_exit(done: Finished, container: Modelled) -> str:
    said = re.findall(r"\d+", done.stderr)
    return "" if str(container.status) in said else f"expected status {container.status}: {done}"


def check_limit(done: Finished, container: Modelled) -> str:
    memory = json.loads(done.stdout)["memory"]
    found = int(memory["usage_limit"])
    if container.limit_bytes in (None, found):
        return ""
    return f"expected a memory limit of {container.limit_bytes}, is {found}"


def update_limit(name: str, limit_bytes: int) -> Finished:
    try:
        update(name, {"memory": {"limit": limit_bytes}})
    except StatusError as error:
        return Finished(1, "", str(error))
    return Finished(0, "", "")
