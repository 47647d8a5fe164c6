"""Runs one command inside the test host and reports over one byte channel.

Owns the channel and the command.  One loop in the main thread moves bytes; a
second thread only says that the host lives, so that the outer side can tell a
hung host from a quiet command.
"""

import io
import json
import os
import selectors
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from tests.testhost.frames import MAX_PAYLOAD, Decoder, Kind, encode
from tests.testhost.guest.process import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    Command,
    start_command,
)
from tests.testhost.guest.services import (
    CONTAINERD_LOG,
    ServiceError,
    pin_vmms,
    read_log_tail,
    start_containerd,
    wait_containerd,
    wait_modules,
)

ALIVE_EVERY_S = 5
READ_BYTES = 1 << 16
CANCELLED = 124
SERVICES_FAILED = 98
GRACE_S = 10
PORTS = Path("/sys/class/virtio-ports")


class Channel:
    """Whole frames to the outer side, from any thread."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._lock = threading.Lock()
        self._decoder = Decoder()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        data = memoryview(encode(kind, payload))
        with self._lock:
            while data:
                data = data[os.write(self.fd, data) :]

    def receive(self) -> list[tuple[Kind, bytes]]:
        return list(self._decoder.feed(os.read(self.fd, READ_BYTES)))

    def receive_job(self) -> tuple[dict[str, Any], list[tuple[Kind, bytes]]]:
        """The job, and what came with it in the same read."""
        while True:
            frames = self.receive()
            if frames:
                return json.loads(frames[0][1]), frames[1:]


class FileSink(io.RawIOBase):
    """A file object whose bytes leave as FILE frames."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        for start in range(0, len(view), MAX_PAYLOAD):
            self._channel.send(Kind.FILE, bytes(view[start : start + MAX_PAYLOAD]))
        return len(view)


class Session:
    """One command from start to exit."""

    def __init__(self, channel: Channel, command: Command) -> None:
        self._channel = channel
        self._command = command
        self._selector = selectors.DefaultSelector()
        self._killer: threading.Timer | None = None

    def run(self, early: list[tuple[Kind, bytes]]) -> int:
        """Ends when the child has exited and its output, if any, is read."""
        self._selector.register(self._channel.fd, selectors.EVENT_READ)
        for fd in self._command.outputs:
            self._selector.register(fd, selectors.EVENT_READ)
        exited = os.pidfd_open(self._command.child.pid)
        self._selector.register(exited, selectors.EVENT_READ)
        for kind, payload in early:
            self._obey(kind, payload)
        while exited in self._selector.get_map():
            for key, _ in self._selector.select():
                self._handle(key.fd, exited)
        self._drain()
        self._selector.close()
        os.close(exited)
        status = self._command.exit_status()
        if self._killer is None:
            return status
        self._killer.cancel()
        self._killer.join()
        return CANCELLED

    def _handle(self, fd: int, exited: int) -> None:
        if fd == exited:
            self._selector.unregister(exited)
        elif fd == self._channel.fd:
            for kind, payload in self._channel.receive():
                self._obey(kind, payload)
        else:
            self._forward(fd)

    def _obey(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.STDIN:
            self._command.write_stdin(payload)
        elif kind is Kind.RESIZE:
            self._command.resize(*json.loads(payload))
        elif kind is Kind.CANCEL and self._killer is None:
            self._command.send_signal(signal.SIGTERM)
            self._killer = threading.Timer(GRACE_S, self._command.send_signal, [signal.SIGKILL])
            self._killer.daemon = True
            self._killer.start()

    def _forward(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except OSError:  # EIO: nobody holds the pty's other side any more
            data = b""
        if not data:
            self._selector.unregister(fd)
            return
        stream = Kind.STDOUT if self._command.outputs[fd] == "stdout" else Kind.STDERR
        self._channel.send(stream, data)

    def _drain(self) -> None:
        """What is left in the pipes; a daemon that keeps one open is not waited for."""
        self._selector.unregister(self._channel.fd)
        while self._selector.get_map() and (ready := self._selector.select(timeout=0)):
            for key, _ in ready:
                self._forward(key.fd)


def main(arguments: list[str]) -> int:
    """`--port NAME` of a virtio-serial port, or `--fd N` of an inherited socket."""
    channel = Channel(open_port(arguments[1]) if arguments[0] == "--port" else int(arguments[1]))
    os.set_inheritable(channel.fd, False)
    threading.Thread(target=beat, args=[channel], daemon=True).start()
    job, early = channel.receive_job()
    if arguments[0] == "--port":
        pin_vmms()
    try:
        status = run_job(channel, job, early)
    except ServiceError as error:
        channel.send(Kind.NOTICE, str(error).encode())
        status = SERVICES_FAILED
    if status != 0 and (tail := read_log_tail()):
        channel.send(Kind.NOTICE, f"the end of {CONTAINERD_LOG}:\n{tail}".encode())
    send_files(channel, job["get"])
    channel.send(Kind.EXIT, json.dumps({"status": status}).encode())
    wait_forever(channel)
    return 0


def run_job(channel: Channel, job: dict[str, Any], early: list[tuple[Kind, bytes]]) -> int:
    env = {**base_environment(), **job["env"]}
    if job["programs"]:
        env["PATH"] = f"{job['programs']}:{env['PATH']}"
        unpack_files(job["put"])
    containerd = None if job["bare"] else start_containerd(env)
    if not job["programs"]:
        unpack_files(job["put"])  # beside containerd's start, which takes seconds
    wait_modules()
    if containerd is not None:
        wait_containerd(containerd)
    return run_command(channel, job, env, early)


def run_command(
    channel: Channel, job: dict[str, Any], env: dict[str, str], early: list[tuple[Kind, bytes]]
) -> int:
    argv = job["argv"]
    try:
        command = start_command(argv, env, terminal=job["terminal"], stdin=job["stdin"])
    except FileNotFoundError:
        channel.send(Kind.NOTICE, f"{argv[0]}: not found".encode())
        return NOT_FOUND
    except OSError as error:
        channel.send(Kind.NOTICE, f"{argv[0]}: {error.strerror}".encode())
        return NOT_EXECUTABLE
    channel.send(Kind.STARTED)
    try:
        return Session(channel, command).run(early)
    finally:
        command.close()


def base_environment() -> dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {
        "PATH": f"/opt/sampan/venv/bin:{path}",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "SAMPAN_TESTHOST": "1",
    }


def open_port(name: str) -> int:
    for port in PORTS.iterdir():
        if (port / "name").read_text().strip() == name:
            return os.open(f"/dev/{port.name}", os.O_RDWR)
    raise SystemExit(f"no virtio-serial port {name}")


def beat(channel: Channel) -> None:
    while True:
        channel.send(Kind.ALIVE)
        threading.Event().wait(ALIVE_EVERY_S)


def unpack_files(source: str) -> None:
    """`source` is a device or file holding a tar whose names are absolute paths."""
    if source:
        import tarfile  # slow to import, and most runs move no files

        with tarfile.open(source, "r:") as archive:
            archive.extractall("/", filter="fully_trusted")


def send_files(channel: Channel, paths: list[str]) -> None:
    if not paths:
        return
    import tarfile

    with tarfile.open(fileobj=FileSink(channel), mode="w|") as archive:
        for number, path in enumerate(paths):
            if os.path.lexists(path):
                archive.add(path, arcname=str(number))
            else:
                channel.send(Kind.NOTICE, f"--get {path}: no such file".encode())


def wait_forever(channel: Channel) -> None:
    """The outer side ends the host; until then its frames are of no interest."""
    while True:
        try:
            if not channel.receive():
                threading.Event().wait(1)
        except OSError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
