"""The outer end of the channel: one job sent, its output passed on as it comes.

Owns the channel's socket while it runs.  Decides between a command that failed, a
command that took too long, and a host that died or hangs.
"""

import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import termios
import time
import tty
from dataclasses import dataclass, field
from typing import BinaryIO

from tests.testhost.frames import Decoder, Kind, encode
from tests.testhost.log import say

READ_BYTES = 1 << 16
MAX_UNSENT_BYTES = 1 << 20
TICK_S = 1.0
# Generous: an emulated host that is merely busy must never look hung.
BOOT_DEADLINE_S = 180
SILENCE_DEADLINE_S = 120
CANCEL_DEADLINE_S = 90


class HostFailure(Exception):
    """The host itself died or hangs: no verdict about the command.  Says how."""


@dataclass(frozen=True)
class Job:
    """What is to be run inside, and what comes back."""

    argv: list[str]
    env: dict[str, str]
    put: str = ""
    get: list[str] = field(default_factory=list)
    terminal: bool = False
    stdin: bool = False
    bare: bool = False
    programs: str = ""
    """A directory, put in with the files, whose programs go before the host's own."""

    def to_frame(self) -> bytes:
        return encode(Kind.JOB, json.dumps(self.__dict__).encode())


@dataclass
class Clock:
    """Deadlines by the host's own signs of life."""

    timeout_s: float | None
    started: float | None = None
    cancelled: float | None = None
    last_sign: float = field(default_factory=time.monotonic)


class Session:
    """Call order: run(), once.  `files` takes the tar of what is fetched.

    Never blocks in writing to the channel: the inside may itself be blocked in
    writing to us, with neither end reading.
    """

    def __init__(
        self, channel: socket.socket, timeout_s: float | None, files: BinaryIO, stdin: int = 0
    ) -> None:
        self._channel = channel
        self._files = files
        self._stdin = stdin
        self._stdin_open = False
        self._clock = Clock(timeout_s)
        self._decoder = Decoder()
        self._selector = selectors.PollSelector()  # stdin may be a file: not for epoll
        self._unsent = bytearray()
        self._status: int | None = None
        self._resized = False

    def run(self, job: Job) -> int:
        """The command's exit status.  HostFailure if there is none."""
        self._channel.setblocking(False)
        self._unsent += job.to_frame()
        self._stdin_open = job.stdin
        if job.terminal:
            signal.signal(signal.SIGWINCH, self._note_resize)
            self._resized = True
        with self._selector:
            while self._status is None:
                self._watch()
                for key, ready in self._selector.select(TICK_S):
                    self._handle(key.fd, ready)
                if self._resized:
                    self._send_size()
                self._check_deadlines()
        return self._status

    def _watch(self) -> None:
        """The channel, for writing too when there is something; stdin unless that piles up."""
        wanted = {self._channel.fileno(): selectors.EVENT_READ}
        if self._unsent:
            wanted[self._channel.fileno()] |= selectors.EVENT_WRITE
        if self._stdin_open and len(self._unsent) < MAX_UNSENT_BYTES:
            wanted[self._stdin] = selectors.EVENT_READ
        for fd in set(self._selector.get_map()) - set(wanted):
            self._selector.unregister(fd)
        for fd, events in wanted.items():
            if fd in self._selector.get_map():
                self._selector.modify(fd, events)
            else:
                self._selector.register(fd, events)

    def _handle(self, fd: int, ready: int) -> None:
        if fd == self._stdin:
            self._read_stdin()
            return
        if ready & selectors.EVENT_WRITE:
            self._write_channel()
        if ready & selectors.EVENT_READ:
            self._read_channel()

    def _send(self, kind: Kind, payload: bytes = b"") -> None:
        self._unsent += encode(kind, payload)

    def _write_channel(self) -> None:
        try:
            del self._unsent[: self._channel.send(self._unsent)]
        except (BrokenPipeError, ConnectionResetError):
            self._unsent.clear()  # reading finds the end, and what came before it

    def _read_stdin(self) -> None:
        data = os.read(self._stdin, READ_BYTES)
        self._send(Kind.STDIN, data)
        self._stdin_open = bool(data)

    def _note_resize(self, *_: object) -> None:
        # Not sent from here: a signal may come in the middle of another frame.
        self._resized = True

    def _send_size(self) -> None:
        self._resized = False
        packed = fcntl.ioctl(self._stdin, termios.TIOCGWINSZ, bytes(8))
        self._send(Kind.RESIZE, json.dumps(struct.unpack("HHHH", packed)[:2]).encode())

    def _read_channel(self) -> None:
        try:
            data = self._channel.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise HostFailure("the host ended before the command did")
        self._clock.last_sign = time.monotonic()
        for kind, payload in self._decoder.feed(data):
            self._take(kind, payload)

    def _take(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.STDOUT:
            write_all(1, payload)
        elif kind is Kind.STDERR:
            write_all(2, payload)
        elif kind is Kind.NOTICE:
            say(payload.decode(errors="replace"))
        elif kind is Kind.FILE:
            self._files.write(payload)
        elif kind is Kind.STARTED:
            self._clock.started = time.monotonic()
        elif kind is Kind.EXIT:
            self._status = int(json.loads(payload)["status"])
        # Writing may have blocked on our reader; that time is not the host's.
        self._clock.last_sign = time.monotonic()

    def _check_deadlines(self) -> None:
        clock, now = self._clock, time.monotonic()
        if clock.started is None and now - clock.last_sign > BOOT_DEADLINE_S:
            raise HostFailure(f"the host did not come up in {BOOT_DEADLINE_S} s")
        if clock.started is not None and now - clock.last_sign > SILENCE_DEADLINE_S:
            raise HostFailure(f"the host gave no sign of life for {SILENCE_DEADLINE_S} s")
        if clock.cancelled is not None and now - clock.cancelled > CANCEL_DEADLINE_S:
            raise HostFailure("the host did not end the command that took too long")
        if clock.started is None or clock.timeout_s is None or clock.cancelled is not None:
            return
        if now - clock.started > clock.timeout_s:
            say(f"timeout: the command ran for more than {clock.timeout_s:g} s; ending it")
            clock.cancelled = now
            self._send(Kind.CANCEL)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class RawTerminal:
    """The terminal on stdin passes every key on; put back on exit."""

    def __enter__(self) -> None:
        self._saved = termios.tcgetattr(0)
        tty.setraw(0)

    def __exit__(self, *_: object) -> None:
        termios.tcsetattr(0, termios.TCSADRAIN, self._saved)
