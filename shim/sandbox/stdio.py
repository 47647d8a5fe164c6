"""A process's stdin, stdout and stderr: from the host's ends to the machine.

A front end opens the host's ends (HostStreams); here the descriptors are handed to
the machine, and no bytes pass through.  The output ends are closed as soon as the
machine has copies: readers see the end of the output when the machine closes those.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from proto.control import Direction
from shim.guest.values import StdioTokens
from shim.host.fds import OwnedFd
from shim.machine.machine import SandboxMachine
from shim.machine.streams import Stream, make_token


@dataclass(frozen=True, slots=True)
class OutputEnds:
    """What a process's output is written to; None is /dev/null."""

    stdout: OwnedFd | None = None
    stderr: OwnedFd | None = None

    def close(self) -> None:
        for fd in (self.stdout, self.stderr):
            if fd is not None:
                fd.close()


class HostStreams(Protocol):
    """The host's ends of one process's streams, as a front end makes them.

    Lifecycle: `open_outputs` once; `open_input` once, at the process's start;
    `close_input` any time; `close` at the end, also after a failure; idempotent.
    """

    @property
    def terminal(self) -> bool: ...

    @property
    def has_input(self) -> bool: ...

    async def open_outputs(self) -> OutputEnds:
        """The caller owns them from then on."""

    def open_input(self) -> OwnedFd | None:
        """The process's input, which the caller owns from then on; None is /dev/null."""

    def close_input(self) -> None:
        """The process sees the end of its input once the client has closed its end too."""

    def close(self) -> None: ...


class ProcessStdio:
    """Lifecycle: `open`, `join` when the agent answers, `join_input` at the start,
    `wait_drained`, `close`."""

    def __init__(self, ends: HostStreams) -> None:
        self._ends = ends
        self._opened = OutputEnds()
        self._outputs: list[Stream] = []
        self._input_token = ""

    @property
    def terminal(self) -> bool:
        return self._ends.terminal

    async def open(self) -> None:
        try:
            self._opened = await self._ends.open_outputs()
        except BaseException:
            self.close()
            raise

    def join(self, machine: SandboxMachine) -> StdioTokens:
        """Hands the outputs over; the input's token is for a stream that is opened later."""
        stdout = self._join_output(machine, self._opened.stdout)
        stderr = self._join_output(machine, self._opened.stderr)
        if self._ends.has_input:
            self._input_token = make_token()
        return StdioTokens(self.terminal, self._input_token, stdout, stderr)

    def join_input(self, machine: SandboxMachine) -> None:
        """Opens the input and hands it over."""
        reader = self._ends.open_input()
        if reader is None:
            return
        try:
            machine.open_stream(reader.fileno(), Direction.TO_GUEST, self._input_token)
        finally:
            reader.close()

    def close_stdin(self) -> None:
        self._ends.close_input()

    async def wait_drained(self, timeout_s: float) -> bool:
        """Whether all output has reached its reader's pipe."""
        waiting = [stream.closed for stream in self._outputs]
        if not waiting:
            return True
        _, pending = await asyncio.wait(waiting, timeout=timeout_s)
        return not pending

    def close(self) -> None:
        self._opened.close()
        self._ends.close()

    def _join_output(self, machine: SandboxMachine, fd: OwnedFd | None) -> str:
        """The stream's token."""
        if fd is None:
            return ""
        token = make_token()
        self._outputs.append(machine.open_stream(fd.fileno(), Direction.FROM_GUEST, token))
        fd.close()
        return token
