"""What containerd has containerd-shim-sampan-v2 do to begin and end a sandbox.

    start    makes the sandbox's directory and socket, has a process become its
             server, prints the address; for a further container of a pod, the
             address of its pod's server
    delete   ends what is left of a sandbox, prints a DeleteResponse
    -v, -info

containerd core/runtime/v2/shim (binary.go, shim.go).  Flags are Go's, with one
dash, the action last.  Everything that containerd reads is on stdout; it reads
stderr into the same pipe, so nothing may be written there on success, and the
server must not hold either.

Runs as `sampan-shim`, where the launcher (native/launcher) has found no warm
server, and in processes of the warm server (shim/warm).  The time of both actions
is a container's start and end: they import the little that they need, the server
the rest after the fork.
"""

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable

from shim.host.process import end_process, load_identity, note_process
from shim.machine.directory import SandboxDirectory, SandboxKey, find_sandbox
from shim.oci.annotations import find_group
from shim.ttrpc.wire import decode_fields, encode_bytes, encode_number, read_text

TYPE_CHECKING = False  # typing's costs its import
if TYPE_CHECKING:
    from typing import Any, NoReturn

VERSION = "0.1.0"
RUNTIME_NAME = "io.containerd.sampan.v2"
SERVER_NAME = "sampan-shim"
OPTIONS_TYPE = "runtimeoptions.v1.Options"
MAX_STDIN_BYTES = 4 << 20
MAX_SPEC_BYTES = 8 << 20
LISTEN_BACKLOG = 16
OOM_SCORE_MAX = 1000
KILLED_STATUS = 137
SERVER_PATIENCE_S = 2.0
"""`delete` has 5 s; a server that was told to shut down needs a fraction of one."""
KILL_WAIT_S = 1.0
TEXT_FLAGS = ("namespace", "address", "publish-binary", "id", "bundle", "socket")
TRUTH_FLAGS = ("debug", "v", "version", "info")


class UsageError(Exception):
    pass


class Invocation:
    """The command line, and what stdin and the environment add to it."""

    def __init__(self, values: dict[str, str], action: str) -> None:
        self.namespace = values.get("namespace", "")
        self.container_id = values.get("id", "")
        self.containerd = values.get("address", "")
        self.bundle = values.get("bundle") or os.getcwd()
        self.debug = "debug" in values
        self.asks_version = "v" in values or "version" in values
        self.asks_info = "info" in values
        self.action = action

    def check(self) -> None:
        for name, value in (("namespace", self.namespace), ("id", self.container_id)):
            if not value or "/" in value or value.startswith("."):
                raise UsageError(f"-{name}: expected a name, is {value!r}")


def parse_arguments(argv: list[str]) -> Invocation:
    """As Go's flag package: -name value, -name=value, one dash or two."""
    values: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            return Invocation(values, word)
        name, equals, value = word.lstrip("-").partition("=")
        if name in TRUTH_FLAGS:
            if value not in ("false", "0"):
                values[name] = "true"
        elif name in TEXT_FLAGS:
            values[name] = value if equals else next(words, "")
        else:
            raise UsageError(f"flag provided but not defined: -{name}")
    return Invocation(values, "")


class StartOptions:
    """What `start` finds on stdin: BootstrapParams (containerd 2.3), or an Any of options."""

    def __init__(self, stdin: bytes, container_id: str) -> None:
        self.is_bootstrap = False
        self.config_path = ""
        try:
            fields = decode_fields(stdin)
            self.is_bootstrap = bool(fields) and read_text(fields, 1) == container_id
            extensions = fields.get(8, []) if self.is_bootstrap else [stdin]
            for extension in extensions:
                self._read_extension(extension)
        except (ValueError, UnicodeDecodeError) as error:
            raise UsageError(f"stdin: neither options nor BootstrapParams: {error}") from error

    def _read_extension(self, extension: int | bytes) -> None:
        """Options of other runtimes are none of ours, and no error either."""
        if not isinstance(extension, bytes):
            return
        fields = decode_fields(extension)
        if self.is_bootstrap:
            inner = fields.get(1, [b""])[-1]
            fields = decode_fields(inner) if isinstance(inner, bytes) else {}
        if read_text(fields, 1) != OPTIONS_TYPE:
            return
        value = fields.get(2, [b""])[-1]
        if isinstance(value, bytes):
            self.config_path = read_text(decode_fields(value), 2)


def read_group(bundle: str) -> str:
    """The sandbox that a bundle's annotations name; "" when there is none or no spec.

    Nothing is judged here: Create reads the spec again and says what is wrong.
    """
    try:
        with open(f"{bundle}/config.json", "rb") as file:
            spec = json.loads(file.read(MAX_SPEC_BYTES))
        return find_group(spec.get("annotations") or {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return ""


class Beginning:
    """A sandbox whose socket listens and whose server is still to come."""

    def __init__(
        self,
        invocation: Invocation,
        options: StartOptions,
        sandbox: SandboxDirectory,
        key: SandboxKey,
    ) -> None:
        self.invocation = invocation
        self.options = options
        self.sandbox = sandbox
        self.key = key
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def prepare(self) -> None:
        """The socket listens before anyone is told of it."""
        os.umask(0o077)
        self.sandbox.create(self.key)
        self.listener.bind(self.sandbox.socket)
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
        """`server` is the process that serves, or is about to."""
        note_process(self.sandbox.shim_pid, server)
        tell_address(self.invocation, self.options, self.sandbox)


Serve = Callable[[Beginning], None]


def start(invocation: Invocation, serve: Serve) -> None:
    """`serve` announces the sandbox and has a process become its server."""
    stdin = sys.stdin.buffer.read(MAX_STDIN_BYTES)
    options = StartOptions(stdin, invocation.container_id)
    sandbox_id = read_group(invocation.bundle) or invocation.container_id
    key = SandboxKey(invocation.containerd, invocation.namespace, str(sandbox_id))
    sandbox = find_sandbox(key)
    if is_served(sandbox):
        tell_address(invocation, options, sandbox)
        return
    beginning = Beginning(invocation, options, sandbox, key)
    beginning.prepare()
    serve(beginning)


def tell_address(invocation: Invocation, options: StartOptions, sandbox: SandboxDirectory) -> None:
    write_atomically(f"{invocation.bundle}/address", sandbox.address)
    print_address(sandbox, options)


def is_served(sandbox: SandboxDirectory) -> bool:
    """Whether a server answers; what one has left behind is cleared away."""
    if not os.path.isdir(sandbox.path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(sandbox.socket)
            return True
        except OSError:
            clean_up(sandbox, patience_s=SERVER_PATIENCE_S)
            return False


def fork_server(beginning: Beginning) -> None:
    """The server is a child of init's."""
    oom_score = read_oom_score(os.getppid())
    server = os.fork()
    if server == 0:
        become_server(beginning, oom_score)
    beginning.listener.close()
    beginning.announce(server)


def become_server(beginning: Beginning, oom_score: int) -> "NoReturn":
    """Ends this process with the sandbox."""
    end_with(beginning.sandbox, lambda: begin_server(beginning, oom_score))


def end_with(sandbox: SandboxDirectory, serve: "Callable[[], None]") -> "NoReturn":
    status = 1
    try:
        serve()
        status = 0
    except BaseException:
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        sandbox.remove()  # a bundle that is gone: containerd gave up, and calls no `delete`
    finally:
        os._exit(status)


def begin_server(beginning: Beginning, oom_score: int, **warm: "Any") -> None:
    """`warm`: ServerArguments of a process that has been forked from the warm server."""
    os.setsid()
    log_fd = enter_bundle(beginning.invocation.bundle, oom_score)
    # Only now, with the parent's pipes closed, what takes its time.
    from shim.containerd.server import ServerArguments, run_server  # noqa: PLC0415
    from shim.machine.launch import launch_machine  # noqa: PLC0415

    arguments = ServerArguments(
        **beginning.describe(),
        sandbox=beginning.sandbox,
        log_fd=log_fd,
        host_mounts=leave_host(),
        **{"launch": launch_machine, **warm},
    )
    run_server(arguments, beginning.listener)


def enter_bundle(bundle: str, oom_score: int) -> int:
    """containerd's pipes are let go at once.  The log's descriptor."""
    os.chdir(bundle)
    log_fd = redirect_standard_streams()
    write_oom_score(oom_score)
    return log_fd


def leave_host() -> int:
    """Into a mount namespace of its own; the host's, as a descriptor."""
    from shim.host import syscalls  # noqa: PLC0415

    syscalls.set_process_name(SERVER_NAME)
    syscalls.set_child_subreaper()
    host_mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.enter_mount_namespace()
    return host_mounts


def redirect_standard_streams() -> int:
    """stdin and stdout to nowhere, stderr to containerd's log FIFO; that descriptor."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        # Opened for reading too: so it opens, and stays, without a reader.
        log = os.open("log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        log = os.dup(null)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    return 2


def read_oom_score(pid: int) -> int:
    """One above the score of `pid`, containerd, so that we go before it does."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", encoding="ascii") as file:
            return min(int(file.read()) + 1, OOM_SCORE_MAX)
    except (OSError, ValueError):
        return 0


def write_oom_score(score: int, process: str = "self") -> None:
    try:
        with open(f"/proc/{process}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(score))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ESRCH):
            raise


def write_atomically(path: str, text: str) -> None:
    temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(temporary, path)


def print_address(sandbox: SandboxDirectory, options: StartOptions) -> None:
    """containerd 1.6, which sets no MAX_SHIM_VERSION, takes a plain address only."""
    text = sandbox.address
    if options.is_bootstrap or "MAX_SHIM_VERSION" in os.environ:
        text = json.dumps({"version": 2, "address": text, "protocol": "ttrpc"})
    sys.stdout.write(text)
    sys.stdout.flush()


def delete(invocation: Invocation) -> None:
    """Also runs after every orderly end, while the server may be on its way out."""
    key = SandboxKey(invocation.containerd, invocation.namespace, invocation.container_id)
    clean_up(find_sandbox(key), SERVER_PATIENCE_S)
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    exited_at = encode_number(1, seconds) + encode_number(2, nanos)
    response = encode_number(2, KILLED_STATUS) + encode_bytes(3, exited_at)
    sys.stdout.buffer.write(response)
    sys.stdout.buffer.flush()


def clean_up(sandbox: SandboxDirectory, patience_s: float) -> None:
    """Ends the server and the vmm of a sandbox and removes its directory; idempotent.

    Its mounts go with the last of the two: they are in their own mount namespace.
    """
    for path, patience in ((sandbox.shim_pid, patience_s), (sandbox.vmm_pid, 0.5)):
        identity = load_identity(path)
        if identity is not None and not end_process(identity, patience, KILL_WAIT_S):
            sys.stderr.write(f"process {identity.pid} of {sandbox.path} does not end\n")
    if os.path.exists(sandbox.network):
        from shim.machine.network_note import undo_note  # noqa: PLC0415

        for problem in undo_note(sandbox):
            sys.stderr.write(f"network namespace: {problem}\n")
    sandbox.remove()


def print_info() -> None:
    """containerd.types.RuntimeInfo: name=1, version=2 RuntimeVersion{version=1}."""
    sys.stdin.buffer.read(MAX_STDIN_BYTES)
    version = encode_bytes(1, VERSION.encode())
    info = encode_bytes(1, RUNTIME_NAME.encode()) + encode_bytes(2, version)
    sys.stdout.buffer.write(info)
    sys.stdout.buffer.flush()


def run(argv: list[str], serve: Serve) -> None:
    invocation = parse_arguments(argv)
    if invocation.asks_version:
        sys.stdout.write(f"containerd-shim-sampan-v2:\n  Version: {VERSION}\n")
    elif invocation.asks_info:
        print_info()
    elif invocation.action == "start":
        invocation.check()
        start(invocation, serve)
    elif invocation.action == "delete":
        invocation.check()
        delete(invocation)
    else:
        raise UsageError(f"expected start or delete, is {invocation.action!r}")


def act(argv: list[str], serve: Serve) -> int:
    """The exit status; on failure containerd shows what was printed, as the error's text."""
    try:
        run(argv, serve)
        sys.stdout.flush()
    except (UsageError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        return 1
    return 0


def main() -> None:
    raise SystemExit(act(sys.argv[1:], fork_server))


if __name__ == "__main__":
    main()
