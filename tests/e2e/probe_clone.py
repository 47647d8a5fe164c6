"""Runs in a container: prints as JSON what a clone should have to itself.

TCP's values are computed from a secret of the kernel and from a clock; the clock's part is
taken off here, so that two kernels with the same secret print the same.
Spec: Linux net/core/secure_seq.c, net/ipv4/inet_hashtables.c; tcp(7); getauxval(3).
"""

import ctypes
import json
import re
import socket
import time
from pathlib import Path

AT_RANDOM = 25
AT_RANDOM_BYTES = 16
TCP_REPAIR = 19  # linux/tcp.h
TCP_REPAIR_OFF_NO_WP = -1
TCP_REPAIR_QUEUE = 20
TCP_QUEUE_SEQ = 21
TCP_TIMESTAMP = 24
TCP_SEND_QUEUE = 2
ISN_TICK_SHIFT = 6
"""seq_scale(): the initial sequence number grows by one in 64 ns."""
SOURCE_PORT = 20_000
PEERS = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]


def connect(peer: str, source_port: int) -> socket.socket:
    """To a listener of our own; source port 0: the kernel's choice."""
    with socket.create_server((peer, 80)) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if source_port:
            client.bind(("127.0.0.1", source_port))
        client.connect((peer, 80))
        accepted, _ = listener.accept()
        accepted.close()
        return client


def read_sequence(peer: str) -> dict[str, int]:
    """The secret's part of an initial sequence number, at most `ticks` too large."""
    before_ns = time.time_ns()
    with connect(peer, SOURCE_PORT) as client:
        ticks = (time.time_ns() - before_ns) >> ISN_TICK_SHIFT
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
        sequence = client.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ)
        client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)
        return {"value": (sequence - (before_ns >> ISN_TICK_SHIFT)) % (1 << 32), "ticks": ticks}


def read_timestamp_offset(peer: str) -> dict[str, int]:
    """The secret's part of TCP timestamps, at most `ticks` (ms) too large."""
    with connect(peer, SOURCE_PORT + 1) as client:
        before_ms = time.monotonic_ns() // 10**6
        stamp = client.getsockopt(socket.IPPROTO_TCP, TCP_TIMESTAMP)
        ticks = time.monotonic_ns() // 10**6 - before_ms
        return {"value": (stamp - before_ms) % (1 << 32), "ticks": ticks}


def read_source_port(peer: str) -> int:
    with connect(peer, 0) as client:
        return int(client.getsockname()[1])


def read_at_random() -> str:
    """What the C library makes stack canaries and pointer guards from."""
    libc = ctypes.CDLL(None)
    libc.getauxval.restype = ctypes.c_ulong
    return ctypes.string_at(libc.getauxval(AT_RANDOM), AT_RANDOM_BYTES).hex()


def read_layout() -> dict[str, str]:
    """Where this process's program, stack and C library are."""
    found: dict[str, str] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        name = re.search(r"(python3[.\d]*|libc\.so\.6|\[stack\]|\[heap\]|\[vdso\])$", line)
        if name:
            found.setdefault(name[1], line.split("-")[0])
    return found


def main() -> None:
    random = Path("/proc/sys/kernel/random")
    own = {
        "boot_id": (random / "boot_id").read_text().strip(),
        "uuid": (random / "uuid").read_text().strip(),
        "AT_RANDOM": read_at_random(),
        "string hash": hash("sampan"),
        "source ports": [read_source_port(peer) for peer in PEERS],
        **read_layout(),
    }
    tcp = {
        "sequence numbers": [read_sequence(peer) for peer in PEERS],
        "timestamps": [read_timestamp_offset(peer) for peer in PEERS],
    }
    print(json.dumps({"own": own, "tcp": tcp, "time": time.time()}))


if __name__ == "__main__":
    main()
