"""One process of a container: its state, its stdio, its end.

Owns the Stdio.  A Process is made and driven by its GuestContainer; its state
changes only by the table in agent/lifecycle.py.
"""

import asyncio
import os
import socket
import time
from array import array
from typing import Final

from agent.crun import Crun, read_pid, remove_file
from agent.errors import FailedPrecondition, InvalidArgument, NotFound, RuntimeFailure
from agent.lifecycle import ALIVE, State, Step, advance
from agent.reaper import UNKNOWN_STATUS, Exit
from agent.spec import ProcessSpec
from agent.stdio import Stdio, StdioRequest
from proto import contract

MAX_SIGNAL: Final = 64
MAX_NAME_BYTES: Final = 4096
"""The name of the terminal, which crun sends with it."""


class Process:
    def __init__(self, name: str, spec: ProcessSpec, request: StdioRequest, state: State) -> None:
        self.name = name
        self.spec = spec
        self.state = state
        self.pid = 0
        self.stdio = Stdio(request, spec.uid)
        self.stopped: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        """The end, once the output has been delivered."""

    @property
    def alive(self) -> bool:
        return self.state in ALIVE

    def step(self, step: Step) -> None:
        self.state = advance(self.state, step, self.name)

    async def launch(self, crun: Crun, command: str, *arguments: str) -> None:
        """`crun create` or `crun exec`; afterwards the pid is known and the pty attached."""
        pid_file = crun.temporary_path("pid")
        options = [command, f"--pid-file={pid_file}"]
        console = ConsoleSocket(crun.temporary_path("tty")) if self.stdio.terminal else None
        if console is not None:
            options.append(f"--console-socket={console.path}")
        try:
            await crun.run(
                [*options, *arguments], program=self.spec.program, child=self.stdio.child_fds()
            )
            self.pid = read_pid(pid_file)
            if console is not None:
                self.stdio.attach_pty(console.receive_pty())
        finally:
            # An end that stays open here would keep the stream open for ever.
            self.stdio.close_child_fds()
            if console is not None:
                console.close()
            remove_file(pid_file)

    async def finish(self, end: Exit, *, drain_fully: bool) -> None:
        """Called after it was reaped: returns when its output has been delivered.

        `drain_fully` waits for the last writer to close, which is right if no
        process of the container is left; else it waits only for what this one
        wrote.
        """
        self.stdio.end_input()
        if not drain_fully:
            self.stdio.mark_drained()
        await self.stdio.wait_drained(contract.DRAIN_TIMEOUT_S)
        self.step(Step.DRAIN)
        self.stopped.set_result(end)

    async def wait(self) -> Exit:
        return await asyncio.shield(self.stopped)

    def give_up(self) -> None:
        """It never ran and never will: those who wait for it get an unknown status."""
        self.stdio.close()
        if not self.stopped.done():
            self.stopped.set_result(Exit(UNKNOWN_STATUS, time.time_ns()))

    def signal(self, number: int) -> None:
        """The signal cannot reach another process: a pid is reused only after its exit was
        reaped here."""
        self.check_signal(number)
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            raise NotFound(f"{self.name}: process already finished") from None

    def check_signal(self, number: int) -> None:
        if not 1 <= number <= MAX_SIGNAL:
            raise InvalidArgument(f"signal: {number} is not 1 to {MAX_SIGNAL}")
        if self.state in (State.ENDED, State.STOPPED, State.DELETED):
            raise NotFound(f"{self.name}: process already finished")
        if self.pid == 0:
            state = self.state.value
            raise FailedPrecondition(f"cannot send signal {number} to {self.name}: it is {state}")

    def resize(self, columns: int, rows: int) -> None:
        if not self.stdio.terminal:
            raise FailedPrecondition(f"{self.name} has no terminal")
        if max(columns, rows) >= 1 << 16:
            raise InvalidArgument(f"columns, rows: {columns}, {rows}: above 65535")
        self.stdio.resize(columns, rows)


def receive_fds(connection: socket.socket) -> list[int]:
    """The descriptors of one message.  Not socket.recv_fds: it ignores its flags (CPython
    3.11 to 3.13), and a process started meanwhile would inherit them."""
    fds = array("i")
    _, ancillary, _, _ = connection.recvmsg(
        MAX_NAME_BYTES, socket.CMSG_LEN(fds.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return fds.tolist()


class ConsoleSocket:
    """The socket on which crun sends the pty that it made in the container; used
    once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        self._socket.listen(1)
        self._socket.setblocking(False)

    def receive_pty(self) -> int:
        """Called after crun has succeeded, so the pty has been sent: this does not
        wait."""
        try:
            connection, _ = self._socket.accept()
            with connection:
                fds = receive_fds(connection)
        except BlockingIOError:
            fds = []
        if len(fds) != 1:
            raise RuntimeFailure("crun sent no terminal over its console socket")
        return fds[0]

    def close(self) -> None:
        self._socket.close()
        remove_file(self.path)
