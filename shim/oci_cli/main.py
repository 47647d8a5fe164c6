"""The OCI command line in a process that the launcher waits for.

Runs in a process of the warm server's (shim/warm/call.py), or in one that the launcher
starts where there is none (shim/warm/direct.py).  The process does what the verb says and
tells the exit status; for `create` and `run` it becomes the container's server.
"""

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from shim.errors import SampanError
from shim.host.syscalls import set_command_line
from shim.machine.launch import Launch
from shim.oci_cli import create, delete, events, execute, features, look, order
from shim.oci_cli.call import Call
from shim.oci_cli.link import finish
from shim.oci_cli.record import OCI_VERSION
from shim.oci_cli.report import report
from shim.oci_cli.usage import (
    ASKS_HELP,
    ASKS_VERSION,
    USAGE,
    Flags,
    parse_command_line,
)
from shim.version import VERSION

NAME: Final = "sampan"
Perform = Callable[[Call], int | None]
"""The exit status; None when the launcher is told by somebody else."""
PERFORM: Final[Mapping[str, Perform]] = {
    "create": create.create,
    "run": create.run,
    "start": order.start,
    "kill": order.kill,
    "pause": order.pause,
    "resume": order.resume,
    "update": order.update,
    "state": look.state,
    "list": look.list_containers,
    "delete": delete.delete,
    "exec": execute.execute,
    "events": events.events,
    "features": features.features,
}


def answer_launcher(arguments: Sequence[str], connection: socket.socket, launch: Launch) -> None:
    """Returns when the call is over and, for a container's server, the container."""
    set_command_line([NAME, *arguments])
    status = perform(arguments, connection, launch)
    if status is not None:
        finish(connection, status)


def perform(arguments: Sequence[str], connection: socket.socket, launch: Launch) -> int | None:
    if ASKS_VERSION.intersection(arguments[:1]):
        print(f"{NAME} version {VERSION}\nspec: {OCI_VERSION}", flush=True)
        return 0
    if not arguments or ASKS_HELP.intersection(arguments[:1]):
        print(USAGE, end="", flush=True)
        return 0 if arguments else 1
    general, verb = Flags(), ""
    try:
        line = parse_command_line(arguments)
        general, verb = line.general, line.verb
        status = PERFORM[verb](Call(line, connection, launch))
        sys.stdout.flush()
        return status
    except SampanError as error:
        return report(general, verb, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return report(general, verb, f"{where}{error.strerror or error}")
