"""Opens what containerd names for a process's stdin, stdout and stderr.

FIFOs, files and logging programs become the core's HostStreams.  Which ends are
kept open (containerd pkg/cio, and runc's shim):

* output FIFO: opened for reading and writing, so that a reader that comes and
  goes (containerd's restart) causes no EPIPE; the machine closes it at the end,
  and only then does the reader see EOF.
* input FIFO: a reader for the machine, and a writer kept open here, so that a
  client that detaches causes no EOF; CloseIO closes the writer.  Opened only at
  the process's start: a client's first write waits for a reader, and a client
  that reached the end of its input during Create would never send CloseIO.
"""

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from shim.containerd.logger import LoggerSpec, LoggingProgram, parse_logger
from shim.errors import HostResource, InvalidArgument
from shim.host.fds import OwnedFd
from shim.sandbox.stdio import OutputEnds

OPEN_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class StdioPaths:
    """As containerd gives them; "" is /dev/null."""

    terminal: bool
    stdin: str
    stdout: str
    stderr: str


class NamedStreams:
    """HostStreams (shim/sandbox/stdio.py) of what containerd names."""

    def __init__(
        self, paths: StdioPaths, start_logger: Callable[[LoggerSpec], LoggingProgram]
    ) -> None:
        self._paths = paths
        self._start_logger = start_logger
        self._logger: LoggingProgram | None = None
        self._input_writer: OwnedFd | None = None
        self._input_closed = False

    @property
    def terminal(self) -> bool:
        return self._paths.terminal

    @property
    def has_input(self) -> bool:
        return bool(self._paths.stdin)

    async def open_outputs(self) -> OutputEnds:
        stdout, stderr = self._paths.stdout, "" if self.terminal else self._paths.stderr
        scheme = urlsplit(stdout).scheme if "://" in stdout else ""
        if scheme == "binary":
            return await self._open_logger(stdout)
        opened: list[OwnedFd | None] = []
        with ExitStack() as undo:
            for name, uri in (("stdout", stdout), ("stderr", stderr)):
                opened.append(open_output(name, uri) if uri else None)
                if opened[-1] is not None:
                    undo.callback(opened[-1].close)
            undo.pop_all()
        return OutputEnds(*opened)

    def open_input(self) -> OwnedFd | None:
        path = self._paths.stdin
        if not path:
            return None
        reader = open_path("stdin", path, os.O_RDONLY | OPEN_FLAGS)
        try:
            if not self._input_closed and stat.S_ISFIFO(os.fstat(reader.fileno()).st_mode):
                self._input_writer = open_path("stdin", path, os.O_WRONLY | OPEN_FLAGS)
        except BaseException:
            reader.close()
            raise
        return reader

    def close_input(self) -> None:
        self._input_closed = True
        if self._input_writer is not None:
            self._input_writer.close()

    def close(self) -> None:
        if self._input_writer is not None:
            self._input_writer.close()
        if self._logger is not None:
            self._logger.close()

    async def _open_logger(self, uri: str) -> OutputEnds:
        self._logger = logger = self._start_logger(parse_logger(uri))
        if self.terminal:
            logger.stderr.close()
        await logger.wait_ready()
        stdout = OwnedFd(logger.stdout.steal())
        return OutputEnds(stdout, None if self.terminal else OwnedFd(logger.stderr.steal()))


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
