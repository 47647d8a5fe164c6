"""The vsock device with Linux as its driver.

One machine for the module: its init loads Debian's vsock modules and runs
vsock_guest.c.  What the device does with a driver that misbehaves is in
tests/native/test_vsock*.c.
"""

import errno
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proto.contract import GUEST_INIT, GUEST_MODULES_FILE, IMAGE_TAG
from proto.control import MachineConfig, Share, SharePolicy
from tests.vm.conftest import IMAGE
from tests.vm.machine import DEADLINE_S, VmmProcess

SOURCE = Path(__file__).with_name("vsock_guest.c")
ECHO, RESULT, NOBODY = 1024, 1026, 1030
PORTS = (ECHO, RESULT, NOBODY)
MIB = 1 << 20
BULK_BYTES = 24 * MIB
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec >/dev/console 2>&1 </dev/console
for module in $($b cat /modules/list); do $b insmod $module || echo cannot load $module; done
exec /bin/vsock_guest
"""


class Guest:
    """The machine, its unix sockets and its streams."""

    def __init__(self, vmm: VmmProcess, directory: Path) -> None:
        self.vmm = vmm
        self.directory = directory
        self.streams = 0

    def dial(self, port: int) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE_S)
        connection.connect(str(self.directory / str(port)))
        return connection

    def dial_ready(self, port: int) -> socket.socket:
        """A connection that the guest has accepted: it may not listen yet."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            connection = self.dial(port)
            if probe_echo(connection):
                return connection
            connection.close()
            assert time.monotonic() < deadline, "the guest never listened"

    def open_stream(self, kind: bytes, size: int, direction: str, fd: int) -> int:
        """Gives the descriptor away."""
        self.streams += 1
        token = kind.ljust(8, b"-") + struct.pack("<Q", size)
        arguments = {"stream": self.streams, "token": token.hex(), "direction": direction}
        self.vmm.request("open_stream", arguments, [fd])
        os.close(fd)
        return self.streams

    def wait_closed(self, stream: int) -> tuple[int, int]:
        event = self.vmm.wait_event("stream_closed")
        assert event["stream"] == stream
        return event["bytes_moved"], event["error"]

    def read_result(self) -> tuple[int, int, int]:
        """Bytes, wrong bytes and errno that the guest saw in its last stream."""
        with self.dial(RESULT) as connection:
            size, wrong, error = read_all(connection).split()
        return int(size), int(wrong), int(error)


def probe_echo(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"?")
        return connection.recv(1) == b"?"
    except (BrokenPipeError, ConnectionResetError):
        return False


def read_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while chunk := connection.recv(65536):
        data += chunk
    return bytes(data)


def make_words(first: int, count: int) -> bytes:
    return array("Q", range(first, first + count)).tobytes()


def make_root(directory: Path) -> Path:
    """busybox, the vsock modules of the image, and the test's own program."""
    root = directory / "root"
    for name in ("bin", "sbin", "dev", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or pytest.skip("needs a static busybox"), root / "bin")
    subprocess.run(["gcc", "-static", "-O2", "-o", root / "bin/vsock_guest", SOURCE], check=True)
    listing = IMAGE / "root" / GUEST_MODULES_FILE.lstrip("/")
    names = []
    for line in listing.read_text().split():
        shutil.copy(IMAGE / "root" / line.lstrip("/"), root / "modules")
        names.append(f"/modules/{Path(line).name}")
    (root / "modules/list").write_text("\n".join(names))
    init = root / GUEST_INIT.lstrip("/")
    init.write_text(INIT)
    init.chmod(0o755)
    return root


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    return listener


@pytest.fixture(scope="module")
def guest(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    directory = tmp_path_factory.mktemp("vsock")
    config = MachineConfig(
        vcpus=2,
        memory_bytes=256 * MIB,
        kernel_path=str(kernel),
        console_path=str(directory / "console"),
        shares=(Share(IMAGE_TAG, str(make_root(directory)), SharePolicy.IMAGE),),
        ports=PORTS,
    )
    with VmmProcess() as vmm:
        with ExitStack() as ours:
            listeners = [ours.enter_context(listen(directory / str(port))) for port in PORTS]
            vmm.boot(config, [listener.fileno() for listener in listeners])
        guest = Guest(vmm, directory)
        try:
            guest.dial_ready(ECHO).close()
        except BaseException:
            print((directory / "console").read_text(errors="replace")[-4000:])
            raise
        yield guest


def test_half_close_passes_through_both_ways(guest: Guest) -> None:
    with guest.dial(ECHO) as connection:
        connection.sendall(b"over and out")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"over and out"


def test_a_port_that_nobody_listens_on_closes_the_connection(guest: Guest) -> None:
    with guest.dial(NOBODY) as connection:
        assert read_all(connection) == b""


def test_many_connections_at_once_keep_their_bytes_apart(guest: Guest) -> None:
    connections = [guest.dial(ECHO) for _ in range(40)]
    for number, connection in enumerate(connections):
        connection.sendall(bytes([number]) * 3000)
        connection.shutdown(socket.SHUT_WR)
    for number, connection in enumerate(connections):
        assert read_all(connection) == bytes([number]) * 3000
        connection.close()


def test_output_arrives_whole_and_in_order(guest: Guest) -> None:
    reader, writer = os.pipe()
    before = guest.vmm.request("counters")["exits"]
    started = time.monotonic()
    stream = guest.open_stream(b"o", BULK_BYTES, "from_guest", writer)
    at = 0
    rest = b""
    with open(reader, "rb", buffering=0) as file:
        while data := file.read(MIB):
            rest += data
            whole = len(rest) // 8 * 8
            assert rest[:whole] == make_words(at, whole // 8)
            at += whole // 8
            rest = rest[whole:]
    taken = time.monotonic() - started
    assert (at * 8, rest) == (BULK_BYTES, b"")
    assert guest.wait_closed(stream) == (BULK_BYTES, 0)
    exits = count_new_exits(before, guest.vmm.request("counters")["exits"])
    print(f"output: {BULK_BYTES / MIB / taken:.0f} MiB/s, exits {exits}")
    assert guest.read_result() == (BULK_BYTES, 0, 0)
    # Notifications and interrupts cost none; what is left does not grow with the data.
    assert sum(exits.values()) < BULK_BYTES // 65536


def count_new_exits(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name)}


def test_input_arrives_whole_and_ends(guest: Guest) -> None:
    reader, writer = os.pipe()
    stream = guest.open_stream(b"i", 0, "to_guest", reader)

    def feed() -> None:
        with open(writer, "wb") as file:
            for first in range(0, BULK_BYTES // 8, MIB // 8):
                file.write(make_words(first, MIB // 8))

    started = time.monotonic()
    feeder = threading.Thread(target=feed)
    feeder.start()
    assert guest.wait_closed(stream) == (BULK_BYTES, 0)
    feeder.join()
    print(f"input: {BULK_BYTES / MIB / (time.monotonic() - started):.0f} MiB/s")
    assert wait_result(guest, BULK_BYTES) == (BULK_BYTES, 0, 0)


def wait_result(guest: Guest, size: int) -> tuple[int, int, int]:
    """The guest may still be reading what the device has delivered."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := guest.read_result())[0] != size and time.monotonic() < deadline:
        continue
    return found


def test_a_slow_reader_holds_the_guest_back_without_loss(guest: Guest, tmp_path: Path) -> None:
    """As the shim does it: a FIFO opened for both, so that no reader is no error."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        os.set_blocking(file.fileno(), True)
        size = 2 * MIB
        stream = guest.open_stream(b"o", size, "from_guest", writer)
        got = bytearray()
        while len(got) < size:
            got += file.read(5000)
        assert bytes(got) == make_words(0, size // 8)
        assert guest.wait_closed(stream) == (size, 0)


def test_a_vanished_reader_is_a_broken_pipe_in_the_guest(guest: Guest) -> None:
    reader, writer = os.pipe()
    stream = guest.open_stream(b"w", 0, "from_guest", writer)
    assert os.read(reader, 8) == bytes(8)
    os.close(reader)
    _, error = guest.wait_closed(stream)
    assert error == errno.EPIPE
    deadline = time.monotonic() + DEADLINE_S
    while not (found := guest.read_result())[2] and time.monotonic() < deadline:
        continue
    assert found[2] == errno.EPIPE


def test_output_to_a_file_and_to_dev_null(guest: Guest, tmp_path: Path) -> None:
    path = tmp_path / "out"
    stream = guest.open_stream(b"o", 100_000, "from_guest", os.open(path, os.O_CREAT | os.O_WRONLY))
    assert guest.wait_closed(stream) == (100_000, 0)
    assert path.read_bytes() == make_words(0, 12500)
    stream = guest.open_stream(b"o", 100_000, "from_guest", os.open("/dev/null", os.O_WRONLY))
    assert guest.wait_closed(stream) == (100_000, 0)
