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


class Command:
    """Call order: start_command(), reads from `outputs`, exit_status()."""

    def __init__(
        self, child: subprocess.Popen[bytes], stdin: int, outputs: dict[int, str], terminal: bool
    ) -> None:
        self.child = child
        self.outputs = outputs
        self._stdin = stdin
        self._terminal = terminal
        self._typed: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        if stdin >= 0:
            threading.Thread(target=self._feed, daemon=True).start()

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
    child = subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    outputs = {child.stdout.fileno(): "stdout", child.stderr.fileno(): "stderr"}
    return Command(child, child.stdin.fileno() if child.stdin else -1, outputs, False)


def start_on_pty(argv: Sequence[str], env: Mapping[str, str]) -> Command:
    ours, theirs = pty.openpty()
    # setsid makes the pty the child's controlling terminal without code of ours
    # running between fork and exec.
    child = subprocess.Popen(
        ["setsid", "--ctty", *argv], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    return Command(child, ours, {ours: "stdout"}, True)
