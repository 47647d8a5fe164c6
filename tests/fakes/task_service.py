"""The Task service with everything around it that is not a fake, on a guest in memory."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from proto.gen.containerd import task_pb2
from shim.containerd.events import EventPublisher
from shim.containerd.logger import LoggerSpec, LoggingProgram, start_logger
from shim.containerd.task import SERVICES, TaskService
from shim.errors import SampanError
from shim.guest.values import ProcessName
from shim.host.mounts import HostMount
from shim.host.program import Program, ProgramEnd
from shim.host.reaper import Reaper
from shim.oci.mounts import Volume
from shim.sandbox.containers import Containers
from tests.fakes.guest import FakeMachine

PROCESS = {"args": ["sh"], "cwd": "/"}
SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": PROCESS,
    "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
}


class RecordingPublisher:
    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def publish(self, topic: str, event: Message) -> None:
        self.events.append((topic.removeprefix("/tasks/"), event))

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _ in self.events]


class FakeFiles:
    """ContainerFiles without mounts; `error` is what mounting raises."""

    error: SampanError | None = None
    mounted: ClassVar[list[str]] = []

    def __init__(self, shares: object, container_id: str) -> None:
        self.container_id = container_id

    def mount(self, rootfs: Sequence[HostMount], volumes: Sequence[Volume]) -> None:
        if FakeFiles.error is not None:
            raise FakeFiles.error
        FakeFiles.mounted.append(self.container_id)

    def unmount(self) -> None:
        if self.container_id in FakeFiles.mounted:
            FakeFiles.mounted.remove(self.container_id)


class FakePrograms:
    """HostPrograms that start nothing; `ends` by path, 0 if not there."""

    def __init__(self) -> None:
        self.ran: list[Program] = []
        self.ends: dict[str, ProgramEnd | OSError] = {}
        self.on_run: Callable[[Program], object] = id

    async def run(self, program: Program) -> ProgramEnd:
        self.ran.append(program)
        self.on_run(program)
        end = self.ends.get(program.path, ProgramEnd(0, ""))
        if isinstance(end, OSError):
            raise end
        return end


class Harness:
    """A TaskService with everything around it, and a bundle."""

    def __init__(self, tmp_path: Path, machine: FakeMachine | SampanError, sandbox_id: str) -> None:
        FakeFiles.error, FakeFiles.mounted = None, []
        self.machine: Any = machine
        self.publisher = RecordingPublisher()
        self.programs = FakePrograms()
        self.reaper = Reaper(asyncio.get_running_loop())
        pid = machine.pid if isinstance(machine, FakeMachine) else 0
        events = EventPublisher(self.publisher, pid)  # type: ignore[arg-type]
        self.containers = Containers(
            sandbox_id=sandbox_id,
            machine=machine,
            listener=events,
            run_program=self.programs.run,
            make_files=FakeFiles,  # type: ignore[arg-type]
        )
        self.over = False
        self.service = TaskService(self.containers, events, self._start_logger, self._shut_down)
        self.bundle = tmp_path / "bundle"
        self.bundle.mkdir()
        self.write_spec()

    async def close(self) -> None:
        """Nothing of it is left on the event loop."""
        await self.containers.close()
        self.reaper.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()

    def write_spec(self, **changes: Any) -> None:
        (self.bundle / "config.json").write_text(json.dumps({**SPEC, **changes}))

    def _start_logger(self, container_id: str, spec: LoggerSpec) -> LoggingProgram:
        return start_logger(spec, container_id, "ns", self.reaper)

    def _shut_down(self) -> None:
        self.over = True

    async def call(self, method: str, **fields: Any) -> Any:
        request_type = getattr(task_pb2, REQUESTS[method])
        methods = self.service.describe()[SERVICES[0]]
        answer = await methods[method].handler(request_type(**fields).SerializeToString())
        name = request_type.__name__.removesuffix("Request") + "Response"
        return getattr(task_pb2, name).FromString(answer) if hasattr(task_pb2, name) else answer

    async def create(self, container_id: str = "c1", **fields: Any) -> Any:
        return await self.call("Create", id=container_id, bundle=str(self.bundle), **fields)

    async def run(self) -> None:
        await self.create()
        await self.call("Start", id="c1")

    async def exec(self, **fields: Any) -> None:
        spec = AnyMessage(type_url="x", value=json.dumps(PROCESS).encode())
        await self.call("Exec", id="c1", exec_id="e1", spec=spec, **fields)

    def end(self, name: ProcessName, status: int) -> None:
        self.machine.agent.end(name, status)

    async def status(self, exec_id: str = "") -> int:
        return int((await self.call("State", id="c1", exec_id=exec_id)).status)


REQUESTS = {
    "State": "StateRequest",
    "Create": "CreateTaskRequest",
    "Start": "StartRequest",
    "Delete": "DeleteRequest",
    "Pids": "PidsRequest",
    "Pause": "PauseRequest",
    "Resume": "ResumeRequest",
    "Checkpoint": "CheckpointTaskRequest",
    "Kill": "KillRequest",
    "Exec": "ExecProcessRequest",
    "ResizePty": "ResizePtyRequest",
    "CloseIO": "CloseIORequest",
    "Update": "UpdateTaskRequest",
    "Wait": "WaitRequest",
    "Stats": "StatsRequest",
    "Connect": "ConnectRequest",
    "Shutdown": "ShutdownRequest",
}
