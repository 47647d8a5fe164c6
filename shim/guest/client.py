"""Calls the agent in the guest.

One AgentClient for a machine, on the event loop, over the unix sockets that
the vmm's vsock device serves.  Takes and gives plain values; an agent's status
becomes one of shim/errors.py.  The agent belongs to the guest: its answers are
data, never used as a path or a pid of the host.  A missing, malformed or
impossible answer is a GuestFault.
"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from typing import Final

from proto.gen.agent.v1 import agent_pb2
from proto.network import GuestNic
from shim.errors import GuestFault
from shim.guest.channel import AgentChannel
from shim.guest.discipline import Correction
from shim.guest.events import AgentEvents, make_ref
from shim.guest.values import AgentInfo, ProcessName, StdioTokens

CALL_TIMEOUT_S: Final = 60.0
"""For what an agent does at once, even on a host with a hundred times its load."""
START_TIMEOUT_S: Final = 600.0
"""For what waits for streams, hooks and programs that are read over the file share."""
MAX_PID: Final = 1 << 22  # the kernel's PID_MAX_LIMIT
MAX_TIME_NS: Final = 1 << 62


class AgentClient:
    """Begins to connect when made.  Lifecycle: `wait_info` or, of a clone, `renew_identity`; any
    calls at once; `close`."""

    def __init__(self, agent_socket: str, events_socket: str, *, stays_open: bool = False) -> None:
        """`stays_open`: as of AgentChannel."""
        self._channel = AgentChannel(agent_socket, stays_open=stays_open)
        self._events = AgentEvents(events_socket)

    async def close(self) -> None:
        await self._events.close()
        await self._channel.close()

    @property
    def is_open(self) -> bool:
        """Whether there is a channel; calls are made without one, too."""
        return self._channel.is_open

    def prepare(self) -> None:
        """As of AgentChannel."""
        self._channel.prepare()

    async def wait_info(self) -> AgentInfo:
        """Waits until the agent answers; the caller limits the time."""
        info = await self._channel.call_first("GetInfo", agent_pb2.GetInfoRequest)
        return AgentInfo(info.protocol_version, info.kernel_release, info.crun_version)

    async def renew_identity(self, entropy: bytes, hostname: str) -> None:
        """Gives a clone its own randomness and the host's time and name, before any other
        call; waits as wait_info does."""

        def request() -> agent_pb2.RenewIdentityRequest:
            return agent_pb2.RenewIdentityRequest(
                entropy=entropy, realtime_ns=time.time_ns(), hostname=hostname
            )

        await self._channel.call_first("RenewIdentity", request)

    async def read_clock(self) -> int | None:
        """The guest's CLOCK_REALTIME in nanoseconds, at a time during the call; None
        if the guest corrects it by itself."""
        request = agent_pb2.ReadClockRequest()
        response = await self._channel.call("ReadClock", request, CALL_TIMEOUT_S)
        if response.kept:
            return None
        return _bound("time", response.realtime_ns, MAX_TIME_NS)

    async def correct_clock(self, correction: Correction) -> None:
        """Adds to the guest's time, at once or slowly."""
        request = agent_pb2.CorrectClockRequest(**correction._asdict())
        await self._channel.call("CorrectClock", request, CALL_TIMEOUT_S)

    async def create_container(
        self, container_id: str, spec_json: bytes, stdio: StdioTokens
    ) -> int:
        """The init process's pid in the guest."""
        request = agent_pb2.CreateContainerRequest(
            container_id=container_id, spec_json=spec_json, stdio=_stdio(stdio)
        )
        response = await self._channel.call("CreateContainer", request, START_TIMEOUT_S)
        return _bound("pid", response.guest_pid, MAX_PID)

    async def add_exec(self, process: ProcessName, process_json: bytes, stdio: StdioTokens) -> None:
        request = agent_pb2.AddExecRequest(
            container_id=process.container_id,
            exec_id=process.exec_id,
            process_json=process_json,
            stdio=_stdio(stdio),
        )
        await self._channel.call("AddExec", request, START_TIMEOUT_S)

    async def start_process(self, process: ProcessName) -> int:
        response = await self._channel.call("StartProcess", make_ref(process), START_TIMEOUT_S)
        return _bound("pid", response.guest_pid, MAX_PID)

    async def wait_process(self, process: ProcessName) -> int:
        """The exit status."""
        return await self._events.wait_exit(process)

    async def signal_process(self, process: ProcessName, signal: int, everyone: bool) -> None:
        request = agent_pb2.SignalProcessRequest(
            process=make_ref(process), signal=signal, all=everyone
        )
        await self._channel.call("SignalProcess", request, CALL_TIMEOUT_S)

    async def resize_terminal(self, process: ProcessName, columns: int, rows: int) -> None:
        request = agent_pb2.ResizeTerminalRequest(
            process=make_ref(process), columns=columns, rows=rows
        )
        await self._channel.call("ResizeTerminal", request, CALL_TIMEOUT_S)

    async def delete_process(self, process: ProcessName) -> None:
        await self._channel.call("DeleteProcess", make_ref(process), CALL_TIMEOUT_S)

    async def pause_container(self, container_id: str) -> None:
        await self._channel.call("PauseContainer", _container(container_id), CALL_TIMEOUT_S)

    async def resume_container(self, container_id: str) -> None:
        await self._channel.call("ResumeContainer", _container(container_id), CALL_TIMEOUT_S)

    async def update_container(self, container_id: str, resources_json: bytes) -> None:
        request = agent_pb2.UpdateContainerRequest(
            container_id=container_id, resources_json=resources_json
        )
        await self._channel.call("UpdateContainer", request, CALL_TIMEOUT_S)

    async def get_stats(self, container_id: str) -> dict[str, dict[str, int]]:
        """Figures by file of the container's cgroup and by key."""
        response = await self._channel.call("GetStats", _container(container_id), CALL_TIMEOUT_S)
        return {name: dict(file.values) for name, file in response.files.items()}

    async def configure_network(self, nics: Sequence[GuestNic], gone: Sequence[int] = ()) -> None:
        """Names, addresses and routes of the machine's interfaces; brings them up, and
        takes those with the numbers `gone` down."""
        described = [asdict(nic) for nic in nics]
        request = agent_pb2.ConfigureNetworkRequest(nics=described, gone=gone)
        await self._channel.call("ConfigureNetwork", request, CALL_TIMEOUT_S)

    async def serve_names(self, address: str, questions: str, answers: str) -> None:
        """Questions to a name server at `address` come by the one stream from now on, their
        answers go by the other one; both are named by their tokens."""
        request = agent_pb2.ServeNamesRequest(
            address=address, question_token=questions, answer_token=answers
        )
        await self._channel.call("ServeNames", request, START_TIMEOUT_S)

    async def forward(self, port: int, to_guest: str, from_guest: str) -> None:
        """Joins two streams, named by their tokens, with a connection to `port` of the guest's
        localhost."""
        request = agent_pb2.ForwardRequest(
            port=port, to_guest_token=to_guest, from_guest_token=from_guest
        )
        await self._channel.call("Forward", request, CALL_TIMEOUT_S)

    def watch_oom_kills(self) -> AsyncIterator[str]:
        """Ids of containers in which the kernel has killed a process for lack of memory, while
        `wait_process` waits for their init process."""
        return self._events.read_kills()


def _bound(what: str, value: int, limit: int) -> int:
    if not 0 <= value <= limit:
        raise GuestFault(f"the guest's agent: {what} {value} is not from 0 to {limit}")
    return int(value)


def _container(container_id: str) -> agent_pb2.ContainerRef:
    return agent_pb2.ContainerRef(container_id=container_id)


def _stdio(tokens: StdioTokens) -> agent_pb2.Stdio:
    return agent_pb2.Stdio(
        terminal=tokens.terminal,
        stdin_token=tokens.stdin,
        stdout_token=tokens.stdout,
        stderr_token=tokens.stderr,
    )
