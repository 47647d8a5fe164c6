"""Listening sockets of the agent: only the host may connect.

A process in a container can open vsock sockets too, but the kernel tells where a
connection comes from.  Unix sockets (outside a guest) are protected by their path.
"""

import socket

from proto import contract

BACKLOG = 256


def listen_vsock(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, port))
    listener.listen(BACKLOG)
    return listener


def listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(BACKLOG)
    return listener


def accept_nowait(listener: socket.socket) -> socket.socket | None:
    """A non-blocking connection; None if it has closed again, or is not the host's."""
    try:
        connection, peer = listener.accept()
    except OSError:
        return None
    if connection.family == socket.AF_VSOCK and peer[0] != contract.HOST_CID:
        connection.close()
        return None
    connection.setblocking(False)
    return connection
