"""`delete`: ends what is left of a container, and forgets it."""

from contextlib import suppress
from typing import Final

from shim.errors import FailedPrecondition, NotFound, SampanError
from shim.machine.cleanup import clean_up
from shim.machine.directory import SandboxDirectory
from shim.oci_cli.call import Call
from shim.oci_cli.control import ask
from shim.oci_cli.record import STOPPED, Record, remove_record

SIGKILL: Final = 9
SERVER_TIMEOUT_S: Final = 30.0
"""For a server whose container has ended, to hand over output and take everything down."""


def delete(call: Call) -> int:
    force = "force" in call.line.flags.truths
    try:
        record = call.find()
    except NotFound:
        if force:
            return 0
        raise
    if record.status not in (STOPPED, "created") and not force:
        raise FailedPrecondition(
            f"cannot delete container {record.id!r} that is not stopped: {record.status}"
        )
    end(record)
    remove_record(record)
    return 0


def end(record: Record) -> None:
    sandbox = SandboxDirectory(record.sandbox)
    timeout_s = SERVER_TIMEOUT_S
    if record.status != STOPPED:
        try:
            ask(sandbox.socket, "kill", {"signal": SIGKILL, "all": True})
        except (NotFound, FailedPrecondition):
            pass  # it is ending
        except SampanError:
            timeout_s = 0
    with suppress(ChildProcessError):
        clean_up(sandbox, timeout_s)
