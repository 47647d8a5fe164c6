"""The host's ends of a process's stdin, stdout and stderr.

Opens what containerd names (FIFOs, files, logging programs) and hands the
descriptors to the machine; the bytes never come through here.  Who holds what
(containerd pkg/cio, and runc's shim):

* output FIFO: opened for reading and writing, so that a reader that comes and
  goes (containerd's restart) makes no EPIPE; the machine closes it at the end,
  and only then does the reader see EOF.
* input FIFO: a reader for the machine, and a writer held here, so that a
  client that detaches is no EOF; CloseIO closes the writer.  Opened no sooner
  than at the start: a client's first write waits for a reader, and a client
  that could reach the end of its input during Create would never send CloseIO.
"""

import asyncio
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from proto.control import Direction
from shim.errors import HostResource, InvalidArgument
from shim.guest.client import StdioTokens
from shim.host.fds import OwnedFd
from shim.machine.machine import Machine, Stream, make_token
from shim.sandbox.logger import LoggerSpec, LoggingProgram, parse_logger

OPEN_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class StdioPaths:
    """As containerd gives them; "" is /dev/null."""

    terminal: bool
    stdin: str
    stdout: str
    stderr: str


@dataclass(slots=True)
class OpenedStdio:
    """Descriptors that await their streams, and the writer that is held."""

    stdin_writer: OwnedFd | None = None
    stdout: OwnedFd | None = None
    stderr: OwnedFd | None = None
    logger: LoggingProgram | None = None

    def close(self) -> None:
        for descriptor in (self.stdin_writer, self.stdout, self.stderr):
            if descriptor is not None:
                descriptor.close()


class ProcessStdio:
    """Lifecycle: `open`, `join` when the agent answers, `join_input` at the start,
    `wait_drained`, `close`."""

    def __init__(self, paths: StdioPaths, start_logger: Callable[[LoggerSpec], LoggingProgram]):
        self.paths = paths
        self._start_logger = start_logger
        self._opened = OpenedStdio()
        self._outputs: list[Stream] = []
        self._input_token = ""
        self._input_closed = False

    async def open(self) -> None:
        try:
            await self._open_outputs()
        except BaseException:
            self.close()
            raise

    def join(self, machine: Machine) -> StdioTokens:
        """Hands the outputs over; the input's token is for a stream that comes later."""
        tokens = {"stdout": "", "stderr": ""}
        for name in tokens:
            descriptor: OwnedFd | None = getattr(self._opened, name)
            if descriptor is None:
                continue
            token = make_token()
            stream = machine.open_stream(descriptor.fileno(), Direction.FROM_GUEST, token)
            descriptor.close()
            tokens[name] = token
            self._outputs.append(stream)
        if self.paths.stdin:
            self._input_token = make_token()
        return StdioTokens(self.paths.terminal, stdin=self._input_token, **tokens)

    def join_input(self, machine: Machine) -> None:
        """Opens the input and hands it over."""
        path = self.paths.stdin
        if not path:
            return
        reader = open_path("stdin", path, os.O_RDONLY | OPEN_FLAGS)
        try:
            if not self._input_closed and stat.S_ISFIFO(os.fstat(reader.fileno()).st_mode):
                self._opened.stdin_writer = open_path("stdin", path, os.O_WRONLY | OPEN_FLAGS)
            machine.open_stream(reader.fileno(), Direction.TO_GUEST, self._input_token)
        finally:
            reader.close()

    def close_stdin(self) -> None:
        """EOF for the process once the client has closed its end too."""
        self._input_closed = True
        if self._opened.stdin_writer is not None:
            self._opened.stdin_writer.close()

    async def wait_drained(self, timeout_s: float) -> bool:
        """Whether all output has reached its reader's pipe."""
        waiting = [stream.closed for stream in self._outputs]
        if not waiting:
            return True
        _, pending = await asyncio.wait(waiting, timeout=timeout_s)
        return not pending

    def close(self) -> None:
        self._opened.close()
        if self._opened.logger is not None:
            self._opened.logger.close()

    async def _open_outputs(self) -> None:
        stdout, stderr = self.paths.stdout, "" if self.paths.terminal else self.paths.stderr
        scheme = urlsplit(stdout).scheme if "://" in stdout else ""
        if scheme == "binary":
            await self._open_logger(stdout)
            return
        for name, uri in (("stdout", stdout), ("stderr", stderr)):
            if uri:
                setattr(self._opened, name, open_output(name, uri))

    async def _open_logger(self, uri: str) -> None:
        logger = self._start_logger(parse_logger(uri))
        self._opened.logger = logger
        self._opened.stdout = logger.stdout
        if self.paths.terminal:
            logger.stderr.close()
        else:
            self._opened.stderr = logger.stderr
        await logger.wait_ready()


def open_output(name: str, uri: str) -> OwnedFd:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return open_plain_output(name, uri)
    if scheme == "fifo":
        return open_plain_output(name, rest)
    if scheme == "file":
        return open_log_file(name, uri)
    raise InvalidArgument(f"{name}: {uri!r}: scheme {scheme!r} is not supported")


def open_log_file(name: str, uri: str) -> OwnedFd:
    path = urlsplit(uri).path
    if not path.startswith("/"):
        raise InvalidArgument(f"{name}: {uri!r}: expected an absolute path")
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    except OSError as error:
        raise HostResource(f"{name}: {os.path.dirname(path)}: {error.strerror}") from error
    return open_path(name, path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | OPEN_FLAGS)


def open_plain_output(name: str, path: str) -> OwnedFd:
    try:
        is_fifo = stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError as error:
        raise InvalidArgument(f"{name}: {path}: {error.strerror}") from error
    flags = os.O_RDWR if is_fifo else os.O_WRONLY | os.O_APPEND
    return open_path(name, path, flags | OPEN_FLAGS)


def open_path(name: str, path: str, flags: int) -> OwnedFd:
    try:
        return OwnedFd(os.open(path, flags, 0o644))
    except FileNotFoundError as error:
        raise InvalidArgument(f"{name}: {path}: {error.strerror}") from error
    except OSError as error:
        raise HostResource(f"{name}: {path}: {error.strerror}") from error
