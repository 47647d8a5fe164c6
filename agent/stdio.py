"""The stdio of one process: its pipes or pty, and the pumps to the host's streams.

A process never gets a socket as stdio: opening /dev/stdout has to work.  Order:
expect(), connect() waits for the host, child_fds() go to crun, start() once crun
has succeeded (so that crun's own errors never reach the container's stderr),
end_input() when the process has ended, wait_drained(), forget(), close().
"""

import array
import asyncio
import fcntl
import os
import socket
import termios
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from agent.errors import InvalidArgument
from agent.pump import Pump
from agent.streams import Streams, parse_token

PIPE_BYTES: Final = 1 << 20
"""/proc/sys/fs/pipe-max-size, which root could exceed: fewer, larger splices."""


class StdioRequest(NamedTuple):
    """The stdio that a process gets; an empty token is /dev/null."""

    terminal: bool
    stdin: bytes
    stdout: bytes
    stderr: bytes

    def tokens(self) -> list[bytes]:
        return [token for token in self[1:] if token]


def parse_stdio(terminal: bool, stdin: str, stdout: str, stderr: str) -> StdioRequest:
    names = ("stdio.stdin_token", "stdio.stdout_token", "stdio.stderr_token")
    tokens = [
        parse_token(text, name) if text else b""
        for text, name in zip((stdin, stdout, stderr), names, strict=True)
    ]
    if terminal and stderr:
        raise InvalidArgument(f"{names[2]}: expected none, a terminal has one output")
    return StdioRequest(terminal, *tokens)


class ChildFds(NamedTuple):
    """The descriptors that become 0, 1 and 2 of crun; -1 is /dev/null."""

    stdin: int
    stdout: int
    stderr: int


class Stdio:
    """Owns the host's streams, the agent's ends of the pipes (or the pty), and the pumps."""

    def __init__(self, request: StdioRequest, uid: int) -> None:
        self._request = request
        self._uid = uid
        self._streams: dict[str, socket.socket] = {}
        self._fds: dict[str, int] = {}
        self._child: dict[str, int] = {}
        self._pumps: dict[str, Pump] = {}
        self._pty = -1
        self._size = (0, 0)
        self._started = False
        self._input_over = False

    @property
    def terminal(self) -> bool:
        return self._request.terminal

    def expect(self, streams: Streams) -> None:
        for token in self._request.tokens():
            arrival = streams.expect(token)
            if token == self._request.stdin:
                arrival.add_done_callback(partial(self._take_stdin, streams))

    def forget(self, streams: Streams) -> None:
        for token in self._request.tokens():
            streams.forget(token)

    async def connect(self, streams: Streams) -> None:
        """Waits for the outputs.  The input may come at any time, also long after the start:
        the host opens it when there is a writer."""
        for name in ("stdout", "stderr"):
            token: bytes = getattr(self._request, name)
            if token:
                self._streams[name] = await streams.take(token)
        if not self.terminal:
            for name in ChildFds._fields:
                if getattr(self._request, name):
                    self._open_pipe(name)

    def child_fds(self) -> ChildFds:
        return ChildFds(*(self._child.get(name, -1) for name in ChildFds._fields))

    def close_child_fds(self) -> None:
        """Called after crun has started: an end that stays open here would keep the stream
        open for ever."""
        for fd in self._child.values():
            os.close(fd)
        self._child.clear()

    def attach_pty(self, fd: int) -> None:
        self._pty = fd
        os.set_blocking(fd, False)
        if self._size != (0, 0):
            self.resize(*self._size)

    def resize(self, columns: int, rows: int) -> None:
        """Remembered until there is a pty."""
        self._size = (columns, rows)
        if self._pty >= 0:
            window = array.array("H", (rows, columns, 0, 0))
            fcntl.ioctl(self._pty, termios.TIOCSWINSZ, window)

    def start(self) -> None:
        self._started = True
        for name in self._streams:
            self._start_pump(name)

    def end_input(self) -> None:
        """Called when the process has ended: nobody will read the input any more."""
        self._input_over = True
        self._close_stream("stdin")

    def mark_drained(self) -> None:
        """wait_drained() then waits for what the ended process wrote, not for others that
        have its pipes open.  A pty reports its content too late: there only its end
        counts."""
        if self.terminal:
            return
        for name in ("stdout", "stderr"):
            if name in self._pumps:
                self._pumps[name].mark_drained()

    async def wait_drained(self, timeout_s: float) -> None:
        """After a timeout the pumps continue; close() ends them."""
        waits = [self._pumps[name].wait_drained() for name in self._pumps if name != "stdin"]
        if waits:
            try:
                await asyncio.wait_for(asyncio.gather(*waits), timeout_s)
            except TimeoutError:
                return

    def close(self) -> None:
        self._input_over = True
        self.close_child_fds()
        for name in list(self._streams):
            self._close_stream(name)
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        if self._pty >= 0:
            os.close(self._pty)
            self._pty = -1

    def _open_pipe(self, name: str) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        ours, theirs = (writer, reader) if name == "stdin" else (reader, writer)
        self._fds[name], self._child[name] = ours, theirs
        os.set_blocking(ours, False)
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # The process's user opens /dev/stdout, which is this inode.
        os.fchown(theirs, self._uid, -1)

    def _take_stdin(self, streams: Streams, arrival: "asyncio.Future[socket.socket]") -> None:
        if arrival.cancelled():
            return
        streams.release(self._request.stdin)
        if self._input_over:
            arrival.result().close()
            return
        self._streams["stdin"] = arrival.result()
        if self._started:
            self._start_pump("stdin")

    def _start_pump(self, name: str) -> None:
        inner, outer = self._pty if self.terminal else self._fds[name], self._streams[name].fileno()
        ends = (outer, inner) if name == "stdin" else (inner, outer)
        # A pipe's reader sees the end of the input; a terminal's does not.
        done = partial(self._close_stream, name)
        self._pumps[name] = Pump(*ends, done, splice=not self.terminal)
        self._pumps[name].start()

    def _close_stream(self, name: str) -> None:
        pump = self._pumps.get(name)
        if pump is not None:
            pump.stop()
        stream = self._streams.pop(name, None)
        if stream is not None:
            with suppress(OSError):  # the host closed it first
                stream.shutdown(socket.SHUT_RDWR if name == "stdin" else socket.SHUT_WR)
            stream.close()
        fd = self._fds.pop(name, -1)
        if fd >= 0:
            os.close(fd)
