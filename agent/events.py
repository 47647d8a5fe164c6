"""Tells the host of ends of processes and of out-of-memory kills, without gRPC.

On connections to EVENTS_PORT: proto/agent/v1/agent.proto, "events".  A connection keeps
nothing that another one would need: an end is the process's own until it is deleted.
Runs in the event loop.
"""

import asyncio
import socket
from contextlib import ExitStack
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from agent.console import say
from agent.errors import NotFound
from agent.listener import accept_nowait
from agent.sandbox import Sandbox
from agent.service import write_exit
from proto.contract import MAX_EVENT_BYTES
from proto.frames import FrameError, frame, read_frame
from proto.gen.agent.v1 import agent_pb2 as pb

MAX_UNSENT_BYTES: Final = 64 << 10
"""A host that does not read misses kills beyond that: each count includes those before."""


class Events:
    """open() in the running loop; close() ends every connection."""

    def __init__(self, listener: socket.socket, sandbox: Sandbox) -> None:
        self._listener = listener
        self._sandbox = sandbox
        self._connections: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        for serving in self._connections:
            serving.cancel()

    def _accept(self) -> None:
        connection = accept_nowait(self._listener)
        if connection is not None:
            serving = asyncio.create_task(self._serve(connection))
            self._connections.add(serving)
            serving.add_done_callback(self._connections.discard)

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        telling: set[asyncio.Task[None]] = set()
        try:
            while True:
                message = await read_frame(reader, MAX_EVENT_BYTES)
                task = asyncio.create_task(self._tell(pb.WatchProcess.FromString(message), writer))
                telling.add(task)
                task.add_done_callback(telling.discard)
        except asyncio.IncompleteReadError:
            return  # the host has closed it
        except (OSError, FrameError, DecodeError) as error:
            say(f"a connection for events: {error}")
        finally:
            for task in telling:
                task.cancel()
            writer.close()

    async def _tell(self, request: pb.WatchProcess, writer: asyncio.StreamWriter) -> None:
        """Kills as they happen, then the end."""
        ref = request.process
        try:
            process = self._sandbox.find(ref.container_id).find(ref.exec_id)
        except NotFound as error:
            send(writer, pb.ProcessEvent(watch=request.watch, not_found=str(error)))
            return
        with ExitStack() as following:
            if not ref.exec_id:
                tell = partial(tell_kill, writer, request.watch)
                oom = self._sandbox.parts.oom
                following.enter_context(oom.follow(ref.container_id, request.oom_kills, tell))
            end = await process.wait()
        send(writer, pb.ProcessEvent(watch=request.watch, exited=write_exit(end)))


def tell_kill(writer: asyncio.StreamWriter, watch: int, kills: int) -> None:
    if writer.transport.get_write_buffer_size() <= MAX_UNSENT_BYTES:
        killed = pb.OutOfMemory(oom_kills=kills)
        send(writer, pb.ProcessEvent(watch=watch, out_of_memory=killed))


def send(writer: asyncio.StreamWriter, event: pb.ProcessEvent) -> None:
    writer.write(frame(event.SerializeToString()))
