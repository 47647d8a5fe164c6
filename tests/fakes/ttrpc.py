"""A real ttrpc server on a socket of its own, around whatever a test serves."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from shim.ttrpc.server import Server, Services
from shim.ttrpc.status import StatusError


@asynccontextmanager
async def serving(
    path: str,
    services: Services,
    describe_error: Callable[[BaseException], StatusError],
) -> AsyncIterator[str]:
    """Answers `path`.  The block lets go of its calls that wait before it ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    server = Server(services, describe_error)
    await server.start(listener)
    yield path
    await server.close(5)
    await asyncio.sleep(0)
