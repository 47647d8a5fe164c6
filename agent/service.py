"""The Agent service of proto/agent/v1/agent.proto, as plain coroutines.

Translates messages to the Sandbox and back; raises AgentError.  Knows nothing of
gRPC: agent/rpc.py serves them.
"""

import time
from typing import TYPE_CHECKING, NamedTuple

from agent import clock, identity, network
from agent.errors import AlreadyExists
from agent.reaper import Exit
from agent.sandbox import Sandbox
from agent.spec import parse_object
from agent.stdio import StdioRequest, parse_stdio
from agent.streams import parse_token
from proto import contract
from proto.gen.agent.v1 import agent_pb2 as pb

if TYPE_CHECKING:
    from agent.names import NameServer


class GuestInfo(NamedTuple):
    kernel_release: str
    init_started_ns: int
    """CLOCK_BOOTTIME, like all times of the guest's start."""


class AgentService:
    def __init__(
        self,
        sandbox: Sandbox,
        info: GuestInfo,
        host_clock: clock.HostClock,
    ) -> None:
        self._sandbox = sandbox
        self._host_clock = host_clock
        self._info = info
        self._listening_ns = 0
        self._names: NameServer | None = None

    def listening(self) -> None:
        self._listening_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    async def GetInfo(self, _: pb.GetInfoRequest) -> pb.GetInfoResponse:
        return pb.GetInfoResponse(
            protocol_version=contract.PROTOCOL_VERSION,
            kernel_release=self._info.kernel_release,
            crun_version=self._sandbox.parts.crun.version,
            init_started_ns=self._info.init_started_ns,
            listening_ns=self._listening_ns,
        )

    async def RenewIdentity(self, request: pb.RenewIdentityRequest) -> pb.RenewIdentityResponse:
        identity.renew_identity(request.entropy, request.realtime_ns, request.hostname)
        self._host_clock.set_time()  # without the time that the message above took
        return pb.RenewIdentityResponse()

    async def ReadClock(self, _: pb.ReadClockRequest) -> pb.ReadClockResponse:
        return pb.ReadClockResponse(realtime_ns=time.time_ns(), kept=self._host_clock.is_open)

    async def CorrectClock(self, request: pb.CorrectClockRequest) -> pb.CorrectClockResponse:
        clock.correct(
            request.offset_ns,
            request.error_ns,
            step=request.step,
            time_constant=request.time_constant,
        )
        return pb.CorrectClockResponse()

    async def CreateContainer(
        self, request: pb.CreateContainerRequest
    ) -> pb.CreateContainerResponse:
        stdio = read_stdio(request.stdio)
        pid = await self._sandbox.create(request.container_id, request.spec_json, stdio)
        return pb.CreateContainerResponse(guest_pid=pid)

    async def AddExec(self, request: pb.AddExecRequest) -> pb.AddExecResponse:
        self._sandbox.add_exec(
            request.container_id, request.exec_id, request.process_json, read_stdio(request.stdio)
        )
        return pb.AddExecResponse()

    async def StartProcess(self, ref: pb.ProcessRef) -> pb.StartProcessResponse:
        pid = await self._sandbox.start(ref.container_id, ref.exec_id)
        return pb.StartProcessResponse(guest_pid=pid)

    async def SignalProcess(self, request: pb.SignalProcessRequest) -> pb.SignalProcessResponse:
        container = self._sandbox.find(request.process.container_id)
        if request.all:
            container.signal_all(request.signal)
        else:
            container.find(request.process.exec_id).signal(request.signal)
        return pb.SignalProcessResponse()

    async def ResizeTerminal(self, request: pb.ResizeTerminalRequest) -> pb.ResizeTerminalResponse:
        container = self._sandbox.find(request.process.container_id)
        container.find(request.process.exec_id).resize(request.columns, request.rows)
        return pb.ResizeTerminalResponse()

    async def DeleteProcess(self, ref: pb.ProcessRef) -> pb.ProcessExit:
        return write_exit(await self._sandbox.delete(ref.container_id, ref.exec_id))

    async def PauseContainer(self, ref: pb.ContainerRef) -> pb.PauseContainerResponse:
        await self._sandbox.find(ref.container_id).set_paused(True)
        return pb.PauseContainerResponse()

    async def ResumeContainer(self, ref: pb.ContainerRef) -> pb.ResumeContainerResponse:
        await self._sandbox.find(ref.container_id).set_paused(False)
        return pb.ResumeContainerResponse()

    async def UpdateContainer(
        self, request: pb.UpdateContainerRequest
    ) -> pb.UpdateContainerResponse:
        resources = parse_object(request.resources_json, "resources_json")
        await self._sandbox.find(request.container_id).update(resources)
        return pb.UpdateContainerResponse()

    async def GetStats(self, ref: pb.ContainerRef) -> pb.GetStatsResponse:
        stats = self._sandbox.find(ref.container_id).cgroup.read_stats()
        files = {name: pb.StatFile(values=values) for name, values in stats.items()}
        return pb.GetStatsResponse(files=files)

    async def ConfigureNetwork(
        self, request: pb.ConfigureNetworkRequest
    ) -> pb.ConfigureNetworkResponse:
        await network.configure(request.nics, request.gone, self._sandbox.parts.reaper)
        return pb.ConfigureNetworkResponse()

    async def ServeNames(self, request: pb.ServeNamesRequest) -> pb.ServeNamesResponse:
        # Few guests need it, and what is not imported needs no memory.
        from agent.names import open_name_server  # noqa: PLC0415

        if self._names is not None:
            raise AlreadyExists("the guest has a name server")
        self._names = await open_name_server(
            request.address,
            parse_token(request.question_token, "question_token"),
            parse_token(request.answer_token, "answer_token"),
            self._sandbox.parts.streams,
        )
        return pb.ServeNamesResponse()

    async def Forward(self, request: pb.ForwardRequest) -> pb.ForwardResponse:
        from agent.forward import open_forward  # noqa: PLC0415 (as above)

        await open_forward(
            request.port,
            parse_token(request.to_guest_token, "to_guest_token"),
            parse_token(request.from_guest_token, "from_guest_token"),
            self._sandbox.parts.streams,
        )
        return pb.ForwardResponse()


def read_stdio(stdio: pb.Stdio) -> StdioRequest:
    return parse_stdio(stdio.terminal, stdio.stdin_token, stdio.stdout_token, stdio.stderr_token)


def write_exit(end: Exit) -> pb.ProcessExit:
    message = pb.ProcessExit(exit_status=end.status)
    message.exited_at.FromNanoseconds(end.ended_at_ns)
    return message
