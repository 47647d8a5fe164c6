"""Who is at the other end of a unix socket: unix(7), SO_PEERCRED."""

import socket
import struct
from typing import Final

PEER_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid


def read_peer_uid(peer: socket.socket) -> int:
    """Of the process that has connected, or that listens."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
    _, uid, _ = PEER_CREDENTIALS.unpack(raw)
    return int(uid)
