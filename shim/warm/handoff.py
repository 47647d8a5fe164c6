"""The handoff of a sandbox to a process that waits with a prewarmed machine.

Three messages, so that exactly one process serves.  The caller sends the Handoff, with a
socket for answers and the sandbox's own; the waiting process accepts; the caller, unless
it has given up, confirms.  A process that gets no answer continues without the other.
"""

import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from shim.config import load_config
from shim.containerd.start import NewSandbox
from shim.errors import SampanError
from shim.host.fds import close_all, receive_fds
from shim.machine.prewarmed import name_prewarmed
from shim.sandbox.plan import plan_machine
from shim.warm.pool import PrewarmedProcess

MAX_MESSAGE_BYTES: Final = 192 << 10
PASSED_FDS: Final = 2
TIMEOUT_S: Final = 1.0
ACCEPTED: Final = b"a"
CONFIRMED: Final = b"c"


class Handoff(NamedTuple):
    """What the next server serves."""

    sandbox: str
    """The path of its directory."""
    described: dict[str, Any]
    """ServerArguments' plain values."""
    oom_score: int
    arguments: list[str]
    """Of the launcher, for ps(1)."""
    environment: dict[str, str]
    seen: list[list[Any]]
    """Paths of the host, and what the caller sees at each (see `identify_file`)."""


def identify_file(path: str) -> list[Any]:
    try:
        found = os.stat(path)
    except OSError:
        return [path, 0, 0]
    return [path, found.st_dev, found.st_ino]


def hand_off(
    ready: Iterable[PrewarmedProcess], new: NewSandbox, oom_score: int, arguments: list[str]
) -> int:
    """The pid of the process that serves the sandbox from here on; 0 if none does."""
    waiting = list(ready)
    if not waiting:
        return 0
    try:
        config = load_config(new.options.config_path or None)
        plan = plan_machine(new.invocation.bundle, config)
    except (SampanError, OSError):
        return 0  # the server finds this out, and reports it
    name = name_prewarmed(config, plan.machine_class, plan.template)
    handoff = Handoff(
        sandbox=new.directory.path,
        described=new.describe(),
        oom_score=oom_score,
        arguments=arguments,
        environment=dict(os.environ),
        seen=[identify_file(path) for path in (new.invocation.bundle, *plan.host_paths)],
    )
    for process in waiting:
        if process.name == name and send_handoff(process.connection, handoff, new.listener):
            new.listener.close()
            return process.pid
    return 0


def send_handoff(connection: socket.socket, handoff: Handoff, listener: socket.socket) -> bool:
    """Whether the process at the other end accepts the handoff."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(TIMEOUT_S)
        try:
            with theirs:
                data = json.dumps(handoff).encode()
                fds = [theirs.fileno(), listener.fileno()]
                socket.send_fds(connection, [data], fds, socket.MSG_DONTWAIT)
            return ours.recv(1) == ACCEPTED and ours.send(CONFIRMED) == len(CONFIRMED)
        except OSError:
            return False


@contextmanager
def receive_handoff(connection: socket.socket) -> Iterator[tuple[Handoff, socket.socket] | None]:
    """The handoff and the socket to serve; None if the caller no longer waits, or sees other
    mounts than this process.  EOFError when no more will come."""
    data, fds, _ = receive_fds(connection, MAX_MESSAGE_BYTES, PASSED_FDS)
    try:
        if not data:
            raise EOFError
        if len(fds) != PASSED_FDS:
            yield None
            return
        handoff = Handoff(*json.loads(data))
        if not all(identify_file(seen[0]) == seen for seen in handoff.seen) or not confirm(fds[0]):
            yield None
            return
        yield handoff, socket.socket(fileno=fds.pop())
    finally:
        close_all(fds)


def confirm(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as answers:
        answers.settimeout(TIMEOUT_S)
        try:
            answers.send(ACCEPTED)
            return answers.recv(1) == CONFIRMED
        except OSError:
            return False
