"""The agent's connection for events, as a test waits on it: blocking, one process each."""

import socket
import struct

from proto.frames import frame
from proto.gen.agent.v1 import agent_pb2 as pb


class ProcessEvents:
    """Context manager: the events of one process, from its first on."""

    def __init__(
        self, path: str, process: pb.ProcessRef, timeout_s: float, *, known_kills: int = 0
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout_s)
        self._socket.connect(path)
        watch = pb.WatchProcess(watch=1, process=process, oom_kills=known_kills)
        self._socket.sendall(frame(watch.SerializeToString()))

    def __enter__(self) -> "ProcessEvents":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> pb.ProcessEvent:
        (length,) = struct.unpack(">I", self._read(4))
        event = pb.ProcessEvent.FromString(self._read(length))
        assert event.watch == 1
        return event

    def read_end(self) -> pb.ProcessExit:
        """Passes kills over."""
        while True:
            event = self.read()
            if event.HasField("exited"):
                return event.exited
            assert event.HasField("out_of_memory"), event

    def _read(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            more = self._socket.recv(count - len(got))
            assert more, "the agent has closed the connection"
            got += more
        return got
