"""Who is at the other end of a unix socket: unix(7), SO_PEERCRED."""

import socket
import struct
from typing import Final

PEER_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred: pid, uid, gid


def read_peer_uid(peer: socket.socket) -> int:
    """Of the process that has connected, or that listens."""
    return read_credentials(peer)[1]


def read_peer_pid(peer: socket.socket) -> int:
    """As `read_peer_uid`."""
    return read_credentials(peer)[0]


def read_credentials(peer: socket.socket) -> tuple[int, int, int]:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
    pid, uid, gid = PEER_CREDENTIALS.unpack(raw)
    return pid, uid, gid
