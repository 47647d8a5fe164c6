"""The command under test as a child process, with pipes or a pty.

Owns the child, its process group and our ends of its stdio.  Reading is left to
the runner's loop.  Stdin is written by a thread: a command that does not read
while it floods its output must not stop the loop.
"""

import contextlib
import fcntl
import os
import pty
import queue
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence

NOT_FOUND = 127
NOT_EXECUTABLE = 126
FEEDER_DEADLINE_S = 5


class Command:
    """Call order: start_command(), reads from `outputs`, exit_status(), close()."""

    def __init__(
        self, child: subprocess.Popen[bytes], stdin: int, outputs: dict[int, str], terminal: bool
    ) -> None:
        self.child = child
        self.outputs = outputs
        self._stdin = stdin
        self._terminal = terminal
        self._typed: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        if stdin >= 0:
            self._feeder.start()

    def close(self) -> None:
        """After the child's exit."""
        if self._stdin >= 0:
            self._typed.put(b"")
            self._feeder.join(FEEDER_DEADLINE_S)
        for fd in self.outputs:
            os.close(fd)

    def write_stdin(self, data: bytes) -> None:
        """An empty `data` is the end of file."""
        self._typed.put(data)

    def _feed(self) -> None:
        while data := self._typed.get():
            try:
                while data:
                    data = data[os.write(self._stdin, data) :]
            except OSError:  # the reader is gone
                break
        if not self._terminal:
            os.close(self._stdin)

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._stdin, termios.TIOCSWINSZ, size)

    def send_signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)

    def exit_status(self) -> int:
        """As a shell gives it: 128 + N for a death by signal N."""
        code = self.child.wait()
        return code if code >= 0 else 128 - code


def start_command(
    argv: Sequence[str], env: Mapping[str, str], *, terminal: bool, stdin: bool
) -> Command:
    return start_on_pty(argv, env) if terminal else start_on_pipes(argv, env, stdin=stdin)


def start_on_pipes(argv: Sequence[str], env: Mapping[str, str], *, stdin: bool) -> Command:
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        out, out_end = open_pipe(ours, theirs)
        err, err_end = open_pipe(ours, theirs)
        in_end, typed = open_pipe(theirs, ours) if stdin else (subprocess.DEVNULL, -1)
        child = subprocess.Popen(
            argv, env=env, stdin=in_end, stdout=out_end, stderr=err_end, start_new_session=True
        )
        ours.pop_all()
    return Command(child, typed, {out: "stdout", err: "stderr"}, False)


def open_pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    readers.callback(os.close, reader)
    writers.callback(os.close, writer)
    return reader, writer


def start_on_pty(argv: Sequence[str], env: Mapping[str, str]) -> Command:
    ours, theirs = pty.openpty()
    # setsid makes the pty the child's controlling terminal without code of ours
    # running between fork and exec.
    child = subprocess.Popen(
        ["setsid", "--ctty", *argv], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    return Command(child, ours, {ours: "stdout"}, True)
