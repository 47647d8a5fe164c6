"""Logging programs: containerd's `binary:///path?key=value` output.

The program gets the container's stdout as fd 3, its stderr as fd 4, and fd 5
to close (or to write a byte to) when it is ready; its arguments are the keys
and values, its environment CONTAINER_ID and CONTAINER_NAMESPACE alone
(containerd cmd/containerd-shim-runc-v2/process/io.go).  It ends when its
inputs end; otherwise it gets SIGTERM, then SIGKILL.
"""

import asyncio
import fcntl
import logging
import os
import signal
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from shim.errors import HostResource, InvalidArgument
from shim.host.fds import OwnedFd
from shim.host.reaper import Reaper

FIRST_FD: Final = 3
FIRST_FREE_FD: Final = 64
READY_TIMEOUT_S: Final = 60.0
GRACE_S: Final = 12.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggerSpec:
    path: str
    arguments: tuple[str, ...]


def parse_logger(uri: str) -> LoggerSpec:
    parts = urlsplit(uri)
    path = unquote(parts.path)
    if parts.netloc or not path.startswith("/"):
        raise InvalidArgument(f"stdout: {uri!r}: expected binary:///path of a program")
    words: list[str] = []
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        words += [key, value] if value else [key]
    return LoggerSpec(path, tuple(words))


class LoggingProgram:
    """Made by `start_logger`; owns the write ends until they are given away."""

    def __init__(
        self,
        path: str,
        pid: int,
        reaper: Reaper,
        *,
        stdout: OwnedFd,
        stderr: OwnedFd,
        ready: OwnedFd,
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self._path = path
        self._pid = pid
        self._ready = ready
        self._ended = reaper.watch(pid)
        self._closing: asyncio.Task[None] | None = None

    async def wait_ready(self) -> None:
        """A byte or EOF on its third pipe."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._ready.fileno(), readable.set)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await readable.wait()
        except TimeoutError as error:
            raise HostResource(
                f"{self._path}: the logging program was not ready in {READY_TIMEOUT_S:g} s"
            ) from error
        finally:
            loop.remove_reader(self._ready.fileno())
            self._ready.close()

    def close(self) -> None:
        """Closes the write ends that are left; the program ends in the background."""
        for descriptor in (self.stdout, self.stderr, self._ready):
            descriptor.close()
        if self._closing is None:
            self._closing = asyncio.create_task(self._end())

    async def _end(self) -> None:
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None and not self._ended.done():
                # Not reaped yet, so the pid is still its own.
                os.kill(self._pid, number)
            done, _ = await asyncio.wait({self._ended}, timeout=GRACE_S)
            if done:
                return
        log.error(
            "logging program %s, process %d, did not end after SIGKILL", self._path, self._pid
        )


def start_logger(
    spec: LoggerSpec, container_id: str, namespace: str, reaper: Reaper
) -> LoggingProgram:
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    ours = [OwnedFd(pipes[0][1]), OwnedFd(pipes[1][1]), OwnedFd(pipes[2][0])]
    theirs = [OwnedFd(pipes[0][0]), OwnedFd(pipes[1][0]), OwnedFd(pipes[2][1])]
    # No source may have a number from 3 to 5: another descriptor is to get it.
    numbers = [fcntl.fcntl(fd.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD) for fd in theirs]
    inherited = [OwnedFd(number) for number in numbers]
    actions = [
        (os.POSIX_SPAWN_DUP2, number, FIRST_FD + index) for index, number in enumerate(numbers)
    ]
    environment = {"CONTAINER_ID": container_id, "CONTAINER_NAMESPACE": namespace}
    try:
        pid = os.posix_spawn(
            spec.path, [spec.path, *spec.arguments], environment, file_actions=actions
        )
    except OSError as error:
        for descriptor in ours:
            descriptor.close()
        raise HostResource(f"{spec.path}: {error.strerror}") from error
    finally:
        for descriptor in (*theirs, *inherited):
            descriptor.close()
    return LoggingProgram(spec.path, pid, reaper, stdout=ours[0], stderr=ours[1], ready=ours[2])
