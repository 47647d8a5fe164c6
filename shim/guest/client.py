"""Calls the agent in the guest: the only module of the shim that imports gRPC.

One AgentClient for a machine, on the event loop, over the unix socket that
the vmm's vsock device serves.  Takes and gives plain values; an agent's status
becomes one of shim/errors.py.  The agent belongs to the guest: its answers are
data, never used as a path or a pid of the host.  A missing, malformed or
impossible answer is a GuestFault.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

# gRPC reads it once, at import: its messages on stderr would be noise in containerd's log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from proto.contract import MAX_GRPC_MESSAGE_BYTES
from proto.gen.agent.v1 import agent_pb2, agent_pb2_grpc
from proto.network import GuestNic
from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    GuestFault,
    InvalidArgument,
    NotFound,
    SampanError,
    Unavailable,
    Unimplemented,
)
from shim.guest.discipline import Correction
from shim.guest.values import AgentInfo, ProcessName, StdioTokens
from shim.text import clean_text

# gRPC logs a traceback for each malformed answer; our own error is logged where it is handled.
logging.getLogger("grpc").setLevel(logging.CRITICAL)

CATEGORIES: Final[dict[grpc.StatusCode, type[SampanError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
}
CONNECT_RETRY_MS: Final = 20
CONNECT_RETRY_MAX_MS: Final = 100
CONNECT_ATTEMPT_MS: Final = 10_000
"""Until the guest's driver is ready an attempt hangs; then it succeeds or is refused."""
CALL_TIMEOUT_S: Final = 60.0
"""For what an agent does at once, even on a host with a hundred times its load."""
START_TIMEOUT_S: Final = 600.0
"""For what waits for streams, hooks and programs that are read over the file share."""
MAX_ANSWER_BYTES: Final = 1 << 20
"""The largest are a container's figures: some KiB."""
MAX_EXIT_STATUS: Final = 255
MAX_PID: Final = 1 << 22  # the kernel's PID_MAX_LIMIT
MAX_TIME_NS: Final = 1 << 62
OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", CONNECT_RETRY_MS),
    ("grpc.max_reconnect_backoff_ms", CONNECT_RETRY_MAX_MS),
    ("grpc.min_reconnect_backoff_ms", CONNECT_ATTEMPT_MS),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class AgentClient:
    """Begins to connect when made.  Lifecycle: `wait_info` or, of a clone, `renew_identity`; any
    calls at once; `close`."""

    def __init__(self, socket_path: str) -> None:
        self._channel = grpc.aio.insecure_channel(f"unix:{socket_path}", options=OPTIONS)
        self._stub = agent_pb2_grpc.AgentStub(self._channel)
        self._channel.get_state(try_to_connect=True)

    async def close(self) -> None:
        await self._channel.close()

    async def wait_info(self) -> AgentInfo:
        """Waits until the agent answers; the caller limits the time."""
        request = agent_pb2.GetInfoRequest()
        info = await self._call_first(lambda: _call(self._stub.GetInfo, request, None))
        return AgentInfo(info.protocol_version, info.kernel_release, info.crun_version)

    async def renew_identity(self, entropy: bytes, hostname: str) -> None:
        """Gives a clone its own randomness and the host's time and name, before any other
        call; waits as wait_info does."""

        def call() -> Awaitable[Any]:
            request = agent_pb2.RenewIdentityRequest(
                entropy=entropy, realtime_ns=time.time_ns(), hostname=hostname
            )
            return _call(self._stub.RenewIdentity, request, None)

        await self._call_first(call)

    async def _call_first(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Runs `call` once there is a connection, so that the time it sends is current."""
        while True:
            await self._channel.channel_ready()
            try:
                return await call()
            except Unavailable:
                # The connection was lost again: the guest is still booting.
                await asyncio.sleep(CONNECT_RETRY_MS / 1000)

    async def read_clock(self) -> int | None:
        """The guest's CLOCK_REALTIME in nanoseconds, at a time during the call; None
        if the guest corrects it by itself."""
        request = agent_pb2.ReadClockRequest()
        response = await _call(self._stub.ReadClock, request, CALL_TIMEOUT_S)
        if response.kept:
            return None
        return _bound("time", response.realtime_ns, MAX_TIME_NS)

    async def correct_clock(self, correction: Correction) -> None:
        """Adds to the guest's time, at once or slowly."""
        request = agent_pb2.CorrectClockRequest(**correction._asdict())
        await _call(self._stub.CorrectClock, request, CALL_TIMEOUT_S)

    async def create_container(
        self, container_id: str, spec_json: bytes, stdio: StdioTokens
    ) -> int:
        """The init process's pid in the guest."""
        request = agent_pb2.CreateContainerRequest(
            container_id=container_id, spec_json=spec_json, stdio=_stdio(stdio)
        )
        response = await _call(self._stub.CreateContainer, request, START_TIMEOUT_S)
        return _bound("pid", response.guest_pid, MAX_PID)

    async def add_exec(self, process: ProcessName, process_json: bytes, stdio: StdioTokens) -> None:
        request = agent_pb2.AddExecRequest(
            container_id=process.container_id,
            exec_id=process.exec_id,
            process_json=process_json,
            stdio=_stdio(stdio),
        )
        await _call(self._stub.AddExec, request, START_TIMEOUT_S)

    async def start_process(self, process: ProcessName) -> int:
        response = await _call(self._stub.StartProcess, _ref(process), START_TIMEOUT_S)
        return _bound("pid", response.guest_pid, MAX_PID)

    async def wait_process(self, process: ProcessName) -> int:
        """The exit status."""
        response = await _call(self._stub.WaitProcess, _ref(process), None)
        return _bound("exit status", response.exit_status, MAX_EXIT_STATUS)

    async def signal_process(self, process: ProcessName, signal: int, everyone: bool) -> None:
        request = agent_pb2.SignalProcessRequest(process=_ref(process), signal=signal, all=everyone)
        await _call(self._stub.SignalProcess, request, CALL_TIMEOUT_S)

    async def resize_terminal(self, process: ProcessName, columns: int, rows: int) -> None:
        request = agent_pb2.ResizeTerminalRequest(process=_ref(process), columns=columns, rows=rows)
        await _call(self._stub.ResizeTerminal, request, CALL_TIMEOUT_S)

    async def delete_process(self, process: ProcessName) -> None:
        await _call(self._stub.DeleteProcess, _ref(process), CALL_TIMEOUT_S)

    async def pause_container(self, container_id: str) -> None:
        await _call(self._stub.PauseContainer, _container(container_id), CALL_TIMEOUT_S)

    async def resume_container(self, container_id: str) -> None:
        await _call(self._stub.ResumeContainer, _container(container_id), CALL_TIMEOUT_S)

    async def update_container(self, container_id: str, resources_json: bytes) -> None:
        request = agent_pb2.UpdateContainerRequest(
            container_id=container_id, resources_json=resources_json
        )
        await _call(self._stub.UpdateContainer, request, CALL_TIMEOUT_S)

    async def get_stats(self, container_id: str) -> dict[str, dict[str, int]]:
        """Figures by file of the container's cgroup and by key."""
        response = await _call(self._stub.GetStats, _container(container_id), CALL_TIMEOUT_S)
        return {name: dict(file.values) for name, file in response.files.items()}

    async def configure_network(self, nics: Sequence[GuestNic]) -> None:
        """Names, addresses and routes of the machine's interfaces; brings them up."""
        request = agent_pb2.ConfigureNetworkRequest(nics=[asdict(nic) for nic in nics])
        await _call(self._stub.ConfigureNetwork, request, CALL_TIMEOUT_S)

    async def watch_oom_kills(self) -> AsyncIterator[str]:
        """Ids of containers in which the kernel has killed a process for lack of memory."""
        call = self._stub.WatchEvents(agent_pb2.WatchEventsRequest())
        try:
            async for event in call:
                if event is None:
                    raise GuestFault("the guest's agent sent an event that is not valid protobuf")
                if event.WhichOneof("event") == "out_of_memory":
                    yield event.container_id
        except grpc.aio.AioRpcError as error:
            raise describe_failure(error) from error


async def _call(
    method: Callable[..., Awaitable[Any]], request: Any, timeout_s: float | None
) -> Any:
    """`timeout_s` None: the caller has a limit of its own, or there is none."""
    try:
        answer = await method(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise describe_failure(error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Hazard: gRPC cancels calls in flight when the channel is closed.  The caller itself
        # is not cancelled, and must get an error.
        raise Unavailable("the connection with the guest's agent was closed") from None
    if answer is None:  # gRPC could not parse the answer
        name = type(request).DESCRIPTOR.name
        raise GuestFault(f"the guest's agent answered {name} with invalid protobuf")
    return answer


def _bound(what: str, value: int, limit: int) -> int:
    if not 0 <= value <= limit:
        raise GuestFault(f"the guest's agent: {what} {value} is not from 0 to {limit}")
    return int(value)


def describe_failure(error: grpc.aio.AioRpcError) -> SampanError:
    category = CATEGORIES.get(error.code())
    details = clean_text(error.details() or "") or error.code().name
    if category is not None:
        return category(details)
    return GuestFault(f"the guest's agent: {error.code().name}: {details}")


def _container(container_id: str) -> agent_pb2.ContainerRef:
    return agent_pb2.ContainerRef(container_id=container_id)


def _ref(process: ProcessName) -> agent_pb2.ProcessRef:
    return agent_pb2.ProcessRef(container_id=process.container_id, exec_id=process.exec_id)


def _stdio(tokens: StdioTokens) -> agent_pb2.Stdio:
    return agent_pb2.Stdio(
        terminal=tokens.terminal,
        stdin_token=tokens.stdin,
        stdout_token=tokens.stdout,
        stderr_token=tokens.stderr,
    )
