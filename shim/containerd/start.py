"""The actions of containerd-shim-sampan-v2: how containerd begins and ends a sandbox.

    start    makes the sandbox's directory and socket, has a process become its
             server, prints the address; for a further container of a pod, the
             address of its pod's server
    delete   ends what is left of a sandbox, prints a DeleteResponse
    -v, -info

containerd core/runtime/v2/shim (binary.go, shim.go).  Everything that containerd
reads is on stdout; it reads stderr into the same pipe, so nothing may be written
there on success, and the server must not hold either.

Runs as `sampan-shim`, where the launcher (native/launcher) has found no warm
server, and in processes of the warm server (shim/warm).  The time of both actions
is part of a container's start and end: they import little; the server imports the
rest after the fork.  So no dataclasses, pathlib, shutil or typing here, nor in what
this module imports.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable

from shim.containerd.arguments import Invocation, StartOptions, UsageError, parse_arguments
from shim.host.daemon import enter_directory, exit_after, leave_host, read_oom_score
from shim.host.pids import note_process
from shim.machine.cleanup import clean_up
from shim.machine.directory import SandboxDirectory, SandboxKey, find_sandbox
from shim.oci.annotations import find_group
from shim.ttrpc.wire import encode_bytes, encode_number
from shim.version import VERSION

TYPE_CHECKING = False  # the one of typing costs an import
if TYPE_CHECKING:
    from typing import Any, NoReturn

RUNTIME_NAME = "io.containerd.sampan.v2"
SERVER_NAME = "sampan-shim"
LOG_FIFO = "log"
"""containerd's, in the bundle."""
MAX_STDIN_BYTES = 4 << 20
MAX_SPEC_BYTES = 8 << 20
LISTEN_BACKLOG = 16
KILLED_STATUS = 137
SERVER_TIMEOUT_S = 2.0
"""`delete` has 5 s; a server that was told to shut down needs less than one."""


class NewSandbox:
    """A sandbox whose socket listens and whose server does not run yet."""

    def __init__(
        self,
        invocation: Invocation,
        options: StartOptions,
        directory: SandboxDirectory,
        key: SandboxKey,
    ) -> None:
        self.invocation = invocation
        self.options = options
        self.directory = directory
        self.key = key
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def prepare(self) -> None:
        """The socket listens before anyone is told its address."""
        os.umask(0o077)
        self.directory.create(self.key)
        self.listener.bind(self.directory.socket)
        self.listener.listen(LISTEN_BACKLOG)

    def describe(self) -> "dict[str, Any]":
        """ServerArguments' plain values."""
        return {
            "namespace": self.invocation.namespace,
            "sandbox_id": self.key.sandbox_id,
            "bundle": self.invocation.bundle,
            "events_address": os.environ.get("TTRPC_ADDRESS", ""),
            "config_path": self.options.config_path,
            "debug": self.invocation.debug,
        }

    def announce(self, server: int) -> None:
        """`server`: pid of the process that serves, or is about to."""
        note_process(self.directory.shim_pid, server)
        print_served_address(self.invocation, self.options, self.directory)


StartServer = Callable[[NewSandbox], None]
"""Announces the sandbox and has a process become its server."""


def start(invocation: Invocation, start_server: StartServer) -> None:
    stdin = sys.stdin.buffer.read(MAX_STDIN_BYTES)
    options = StartOptions(stdin, invocation.container_id)
    sandbox_id = read_group(invocation.bundle) or invocation.container_id
    key = SandboxKey(invocation.containerd, invocation.namespace, str(sandbox_id))
    directory = find_sandbox(key)
    if is_served(directory):
        print_served_address(invocation, options, directory)
        return
    new = NewSandbox(invocation, options, directory, key)
    new.prepare()
    start_server(new)


def read_group(bundle: str) -> str:
    """The sandbox that a bundle's annotations name; "" when there is none or no spec.

    Nothing is checked here: Create reads the spec again and says what is wrong.
    """
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            spec = json.loads(file.read(MAX_SPEC_BYTES))
        return find_group(spec.get("annotations") or {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return ""


def is_served(directory: SandboxDirectory) -> bool:
    """Whether a server answers; what a dead one has left is removed."""
    if not os.path.isdir(directory.path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(directory.socket)
            return True
        except OSError:
            clean_up(directory, timeout_s=SERVER_TIMEOUT_S)
            return False


def print_served_address(
    invocation: Invocation, options: StartOptions, directory: SandboxDirectory
) -> None:
    write_atomically(f"{invocation.bundle}/address", directory.address)
    print_address(directory, options)


def write_atomically(path: str, text: str) -> None:
    temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(temporary, path)


def print_address(directory: SandboxDirectory, options: StartOptions) -> None:
    """containerd 1.6, which sets no MAX_SHIM_VERSION, takes a plain address only."""
    text = directory.address
    if options.is_bootstrap or "MAX_SHIM_VERSION" in os.environ:
        text = json.dumps({"version": 2, "address": text, "protocol": "ttrpc"})
    sys.stdout.write(text)
    sys.stdout.flush()


def fork_server(new: NewSandbox) -> None:
    """The server becomes a child of init."""
    oom_score = read_oom_score(os.getppid())
    server = os.fork()
    if server == 0:
        become_server(new, oom_score)
    new.listener.close()
    new.announce(server)


def become_server(new: NewSandbox, oom_score: int, **warm: "Any") -> "NoReturn":
    """Ends this process with the sandbox.  `warm`: as of run_new_server."""
    # The bundle is gone: containerd has given up and will not call `delete`.
    exit_after(lambda: run_new_server(new, oom_score, **warm), new.directory.remove)


def run_new_server(new: NewSandbox, oom_score: int, **warm: "Any") -> None:
    """`warm`: ServerArguments of a process that has been forked from the warm server."""
    os.setsid()
    log_fd = enter_directory(new.invocation.bundle, LOG_FIFO, oom_score)
    # Slow imports: only now, when the parent's pipes are closed.
    from shim.containerd.server import run_server  # noqa: PLC0415
    from shim.containerd.server_arguments import ServerArguments  # noqa: PLC0415
    from shim.machine.launch import launch_machine  # noqa: PLC0415

    arguments = ServerArguments(
        **new.describe(),
        sandbox=new.directory,
        log_fd=log_fd,
        host_mounts=leave_host(SERVER_NAME),
        **{"launch": launch_machine, **warm},
    )
    run_server(arguments, new.listener)


def delete(invocation: Invocation) -> None:
    """Also runs after every orderly end, while the server may still be exiting."""
    key = SandboxKey(invocation.containerd, invocation.namespace, invocation.container_id)
    clean_up(find_sandbox(key), SERVER_TIMEOUT_S)
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    exited_at = encode_number(1, seconds) + encode_number(2, nanos)
    response = encode_number(2, KILLED_STATUS) + encode_bytes(3, exited_at)
    sys.stdout.buffer.write(response)
    sys.stdout.buffer.flush()


def print_info() -> None:
    """containerd.types.RuntimeInfo: name=1, version=2 RuntimeVersion{version=1}."""
    sys.stdin.buffer.read(MAX_STDIN_BYTES)
    version = encode_bytes(1, VERSION.encode())
    info = encode_bytes(1, RUNTIME_NAME.encode()) + encode_bytes(2, version)
    sys.stdout.buffer.write(info)
    sys.stdout.buffer.flush()


def run_action(argv: list[str], start_server: StartServer) -> None:
    invocation = parse_arguments(argv)
    if invocation.asks_version:
        sys.stdout.write(f"containerd-shim-sampan-v2:\n  Version: {VERSION}\n")
    elif invocation.asks_info:
        print_info()
    elif invocation.action == "start":
        invocation.check()
        start(invocation, start_server)
    elif invocation.action == "delete":
        invocation.check()
        delete(invocation)
    else:
        raise UsageError(f"expected start or delete, is {invocation.action!r}")


def run_command(argv: list[str], start_server: StartServer) -> int:
    """The exit status; on failure containerd shows what was printed, as the error's text."""
    try:
        run_action(argv, start_server)
        sys.stdout.flush()
    except (UsageError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        return 1
    return 0


def main() -> None:
    raise SystemExit(run_command(sys.argv[1:], fork_server))


if __name__ == "__main__":
    main()
