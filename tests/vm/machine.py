"""A vmm process on the other end of a control socket, as the shim has it.

Small on purpose: blocking, one machine, everything with a deadline.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from proto.control import CONTROL_FD, MAX_PACKET_BYTES, MachineConfig
from tests.capabilities import is_emulated

DEADLINE_S = 120
"""The emulated test host is some 30 times slower than hardware."""


PINNED = ("taskset", "-c", "1") if is_emulated() else ()
"""See tests/testhost/guest/services.py: without it a busy guest takes a triple fault."""


class Refused(Exception):
    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(f"{error['category']}: {error['message']}")
        self.category = error["category"]
        self.message = error["message"]


class VmmProcess:
    """Started at once; as a context manager it ends the process and reaps it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE_S)
        self.events: list[dict[str, Any]] = []
        self.last_id = 0
        with theirs:
            self.process = start_process(theirs.fileno())

    def request(
        self, operation: str, arguments: dict[str, Any] | None = None, fds: Sequence[int] = ()
    ) -> dict[str, Any]:
        self.last_id += 1
        message = {"id": self.last_id, "op": operation, "args": arguments or {}}
        self.send_raw(json.dumps(message).encode(), fds)
        answer = self.receive_until(lambda packet: packet.get("id") == self.last_id)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def boot(self, config: MachineConfig, fds: Sequence[int] = ()) -> dict[str, Any]:
        return self.request("boot", config.to_json(), fds)

    def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self.socket, [data], list(fds))

    def wait_event(self, name: str) -> dict[str, Any]:
        for index, event in enumerate(self.events):
            if event["event"] == name:
                return self.events.pop(index)["args"]
        event = self.receive_until(lambda packet: packet.get("event") == name)
        return event["args"]

    def receive_until(self, wanted: Any) -> dict[str, Any]:
        while True:
            data = self.socket.recv(MAX_PACKET_BYTES)
            if not data:
                raise EOFError(f"the vmm has ended ({self.process.wait(DEADLINE_S)})")
            packet = json.loads(data)
            if wanted(packet):
                return packet
            assert "event" in packet, packet
            self.events.append(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()


def start_process(control_fd: int) -> subprocess.Popen[bytes]:
    """`-m shim.vmm.process` with the socket as fd CONTROL_FD and nothing else."""
    move = f"os.dup2(int(sys.argv[1]), {CONTROL_FD})"
    code = f"import os, sys; {move}; os.execv(sys.argv[2], sys.argv[2:])"
    tree = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [
            *PINNED,
            sys.executable,
            "-ISc",
            code,
            str(control_fd),
            sys.executable,
            "-m",
            "shim.vmm.process",
        ],
        pass_fds=[control_fd],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )
