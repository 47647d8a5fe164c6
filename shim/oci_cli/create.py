"""`create` and `run`: this process becomes the container's server.

Everything is checked that can be before anything is made; what was made is removed when
the container does not come about.
"""

import os

from shim.errors import InvalidArgument, SampanError
from shim.oci.spec import parse_spec
from shim.oci_cli.call import Call
from shim.oci_cli.prepared import NewContainer, RunOptions
from shim.oci_cli.record import check_id, make_record, remove_record
from shim.oci_cli.report import report
from shim.oci_cli.server import serve
from shim.sandbox.plan import read_spec


def create(call: Call) -> int | None:
    return begin(call, starts=False, foreground=False)


def run(call: Call) -> int | None:
    return begin(call, starts=True, foreground="detach" not in call.line.flags.truths)


def begin(call: Call, *, starts: bool, foreground: bool) -> int | None:
    flags = call.line.flags
    container_id = check_id(call.line.words[0])
    bundle = os.path.abspath(flags.text("bundle", os.curdir))
    spec = parse_spec(read_spec(bundle))
    terminal = bool(spec["process"].get("terminal"))
    check_console(terminal, flags.text("console-socket"), foreground)
    options = RunOptions(
        terminal=terminal,
        starts=starts,
        foreground=foreground,
        keep="keep" in flags.truths or not foreground,
        console_socket=absolute(flags.text("console-socket")),
        pid_file=absolute(flags.text("pid-file")),
    )
    record = make_record(call.root, container_id, bundle, spec)
    # The caller's stderr, until the container is there: it is the container's too.
    with os.fdopen(os.dup(2), "w") as errors:
        try:
            serve(NewContainer(call, record, options, errors))
        except (SampanError, OSError) as error:
            remove_record(record)
            return report(call.line.general, call.line.verb, str(error), errors)
    return None


def absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""


def check_console(terminal: bool, console_socket: str, foreground: bool) -> None:
    if terminal and not foreground and not console_socket:
        raise InvalidArgument("process.terminal: a detached container needs --console-socket")
    if console_socket and (foreground or not terminal):
        raise InvalidArgument(
            "--console-socket: only for a container that is detached and has process.terminal"
        )
