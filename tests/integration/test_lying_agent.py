"""A guest that has been taken over sends false answers: the shim's client reports each as
an error of the guest, in bounded time and length.

The server is gRPC's own; its answers are raw bytes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from proto.gen.agent.v1 import agent_pb2 as pb
from shim.errors import GuestFault, NotFound, SampanError
from shim.guest import client as client_module
from shim.guest.client import AgentClient
from shim.guest.clock import keep_clock
from shim.guest.values import ProcessName, StdioTokens

pytestmark = [
    pytest.mark.integration,
    pytest.mark.leaks(reason="gRPC keeps its poller until a later garbage collection"),
]
NAME = ProcessName("c1")
GARBAGE = b"\xff" * 64
Context = Any
"""grpc.aio.ServicerContext: the library has no types."""
Lie = Callable[[Context], Awaitable[bytes]]
Call = Callable[[AgentClient], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "GetInfo": lambda agent: agent.wait_info(),
    "RenewIdentity": lambda agent: agent.renew_identity(b"", "h"),
    "ReadClock": lambda agent: agent.read_clock(),
    "CreateContainer": lambda agent: agent.create_container("c1", b"{}", StdioTokens(False)),
    "AddExec": lambda agent: agent.add_exec(NAME, b"{}", StdioTokens(False)),
    "StartProcess": lambda agent: agent.start_process(NAME),
    "SignalProcess": lambda agent: agent.signal_process(NAME, 9, True),
    "ResizeTerminal": lambda agent: agent.resize_terminal(NAME, 80, 25),
    "DeleteProcess": lambda agent: agent.delete_process(NAME),
    "PauseContainer": lambda agent: agent.pause_container("c1"),
    "ResumeContainer": lambda agent: agent.resume_container("c1"),
    "UpdateContainer": lambda agent: agent.update_container("c1", b"{}"),
    "GetStats": lambda agent: agent.get_stats("c1"),
    "ConfigureNetwork": lambda agent: agent.configure_network(()),
    "ServeNames": lambda agent: agent.serve_names("127.0.0.11", "", ""),
    "Forward": lambda agent: agent.forward(80, "", ""),
}
LONG = {"GetInfo", "RenewIdentity"}
"""Callers of these have a limit of their own, or none for a good reason."""


class Liar(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, lie: Lie) -> None:
        self._lie = lie
        self.calls = 0

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _: bytes, context: Context) -> bytes:
        self.calls += 1
        return await self._lie(context)


@asynccontextmanager
async def lying(tmp_path: Path, lie: Lie) -> AsyncIterator[tuple[AgentClient, Liar]]:
    liar = Liar(lie)
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((liar,))
    server.add_insecure_port(f"unix:{tmp_path}/agent.sock")
    await server.start()
    client = AgentClient(f"{tmp_path}/agent.sock", f"{tmp_path}/events.sock")
    try:
        yield client, liar
    finally:
        await client.close()
        await server.stop(None)


def say(answer: bytes) -> Lie:
    async def lie(_: Context) -> bytes:
        return answer

    return lie


def refuse(code: grpc.StatusCode, details: str) -> Lie:
    async def lie(context: Context) -> bytes:
        await context.abort(code, details)
        raise AssertionError

    return lie


async def never(_: Context) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("method", CALLS)
async def test_what_is_no_message_is_the_guests_fault(
    tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And no line in the log for each: the caller that gets the error reports it."""
    async with lying(tmp_path, say(GARBAGE)) as (client, _):
        with pytest.raises(GuestFault, match="protobuf"):
            await asyncio.wait_for(CALLS[method](client), 20)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_text_that_is_no_utf8_is_no_message(tmp_path: Path) -> None:
    async with lying(tmp_path, say(b"\x12\x02\xff\xff")) as (client, _):
        with pytest.raises(GuestFault, match="protobuf"):
            await client.wait_info()


async def test_an_answer_of_64_mib_is_not_taken(tmp_path: Path) -> None:
    async with lying(tmp_path, say(bytes(64 << 20))) as (client, _):
        with pytest.raises(GuestFault, match=r"larger than max"):
            await client.get_stats("c1")


async def test_what_is_larger_than_any_answer_is_not_taken(tmp_path: Path) -> None:
    answer = pb.GetInfoResponse(kernel_release="x" * (2 << 20)).SerializeToString()
    async with lying(tmp_path, say(answer)) as (client, _):
        with pytest.raises(GuestFault):
            await asyncio.wait_for(client.wait_info(), 20)


@pytest.mark.parametrize("method", [name for name in CALLS if name not in LONG])
async def test_an_answer_that_never_comes_is_not_waited_for(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(client_module, "START_TIMEOUT_S", 0.2)
    async with lying(tmp_path, never) as (client, _):
        with pytest.raises(GuestFault, match="DEADLINE_EXCEEDED"):
            await asyncio.wait_for(CALLS[method](client), 20)


@pytest.mark.parametrize(
    ("code", "category"),
    [(grpc.StatusCode.NOT_FOUND, NotFound), (grpc.StatusCode.DATA_LOSS, GuestFault)],
)
async def test_the_text_of_a_refusal_is_a_short_printable_line(
    tmp_path: Path, code: grpc.StatusCode, category: type[SampanError]
) -> None:
    async with lying(tmp_path, refuse(code, "a\nb\x1b[2J\u202e" + "x" * 5000)) as (client, _):
        with pytest.raises(category) as caught:
            await client.signal_process(NAME, 9, everyone=False)
    text = str(caught.value)
    assert "a b [2J x" in text
    assert text.isprintable()
    assert len(text) < 1200


async def test_a_refusal_of_megabytes_is_the_guests_fault(tmp_path: Path) -> None:
    async with lying(tmp_path, refuse(grpc.StatusCode.NOT_FOUND, "x" * (1 << 20))) as (client, _):
        with pytest.raises(SampanError) as caught:
            await asyncio.wait_for(client.signal_process(NAME, 9, everyone=False), 20)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("method", ["CreateContainer", "StartProcess"])
@pytest.mark.parametrize("pid", [0xFFFFFFFF, 1 << 23])
async def test_a_pid_that_there_is_not_is_the_guests_fault(
    tmp_path: Path, method: str, pid: int
) -> None:
    answer = pb.StartProcessResponse(guest_pid=pid).SerializeToString()
    async with lying(tmp_path, say(answer)) as (client, _):
        with pytest.raises(GuestFault, match=f"pid {pid}"):
            await CALLS[method](client)


@pytest.mark.parametrize("guest_ns", [-(1 << 63), (1 << 63) - 1, -1])
async def test_a_time_out_of_the_question_ends_the_checks_of_the_clock(
    tmp_path: Path, guest_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.guest.clock.FIRST_CHECK_S", 0)
    answer = pb.ReadClockResponse(realtime_ns=guest_ns).SerializeToString()
    async with lying(tmp_path, say(answer)) as (client, liar):
        await asyncio.wait_for(keep_clock(client), 20)
        assert liar.calls == 1
