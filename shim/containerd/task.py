"""containerd's Task service: requests in, answers out.

Translates between containerd's messages and the containers of this sandbox,
and decides nothing that they can decide.  v2 and v3 of the service are the
same methods.
"""

import os
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from proto.contract import MAX_ID_BYTES
from proto.gen.containerd import runc_pb2, task_pb2, types_pb2
from shim.containerd.events import EventPublisher
from shim.containerd.logger import LoggerSpec, LoggingProgram
from shim.containerd.messages import make_timestamp, pack_any
from shim.containerd.stats import build_metrics_v1, build_metrics_v2
from shim.containerd.stdio import NamedStreams, StdioPaths
from shim.errors import InvalidArgument, Unimplemented
from shim.guest.values import ProcessName
from shim.host.mounts import HostMount
from shim.oci.shape import check_shape
from shim.oci.spec import TEXT
from shim.sandbox.containers import Containers
from shim.sandbox.lifecycle import State
from shim.ttrpc.server import Handler, Method, Services

SERVICES: Final = ("containerd.task.v2.Task", "containerd.task.v3.Task")
VERSION: Final = "sampan"
MAX_SIGNAL: Final = 64
CGROUP2_MARK: Final = "/sys/fs/cgroup/cgroup.controllers"
IDENTIFIER: Final = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*")
"""containerd pkg/identifiers; also keeps an id from being a path."""
STATUSES: Final = {
    State.CREATED: types_pb2.CREATED,
    State.STARTING: types_pb2.CREATED,
    State.RUNNING: types_pb2.RUNNING,
    State.PAUSED: types_pb2.PAUSED,
    State.STOPPED: types_pb2.STOPPED,
    State.DELETED: types_pb2.STOPPED,
}


class TaskService:
    """`shut_down` is called when a Shutdown, once answered, is to end the process."""

    def __init__(
        self,
        containers: Containers,
        events: EventPublisher,
        start_logger: Callable[[str, LoggerSpec], LoggingProgram],
        shut_down: Callable[[], None],
    ) -> None:
        self._containers = containers
        self._events = events
        self._start_logger = start_logger
        self._shut_down = shut_down
        self._paths: dict[ProcessName, StdioPaths] = {}
        """What State returns, for each existing process."""

    def describe(self) -> Services:
        """Every method by name, for the ttrpc server."""
        methods = {
            "State": self._method(task_pb2.StateRequest, self.state),
            "Create": self._method(task_pb2.CreateTaskRequest, self.create),
            "Start": self._method(task_pb2.StartRequest, self.start),
            "Delete": self._method(task_pb2.DeleteRequest, self.delete),
            "Pids": self._method(task_pb2.PidsRequest, self.pids),
            "Pause": self._method(task_pb2.PauseRequest, self.pause),
            "Resume": self._method(task_pb2.ResumeRequest, self.resume),
            "Checkpoint": self._method(task_pb2.CheckpointTaskRequest, self.checkpoint),
            "Kill": self._method(task_pb2.KillRequest, self.kill),
            "Exec": self._method(task_pb2.ExecProcessRequest, self.exec),
            "ResizePty": self._method(task_pb2.ResizePtyRequest, self.resize_pty),
            "CloseIO": self._method(task_pb2.CloseIORequest, self.close_io),
            "Update": self._method(task_pb2.UpdateTaskRequest, self.update),
            "Wait": self._method(task_pb2.WaitRequest, self.wait, waits=True),
            "Stats": self._method(task_pb2.StatsRequest, self.stats),
            "Connect": self._method(task_pb2.ConnectRequest, self.connect),
            "Shutdown": self._method(task_pb2.ShutdownRequest, self.shutdown),
        }
        return dict.fromkeys(SERVICES, methods)

    async def create(self, request: task_pb2.CreateTaskRequest) -> Message:
        check_id("id", request.id)
        check_shape(request.bundle, TEXT, "bundle")
        if request.checkpoint:
            raise Unimplemented(f"checkpoint: {request.checkpoint!r}: restoring is not supported")
        rootfs = tuple(read_mount(mount) for mount in request.rootfs)
        paths = read_paths(request)
        ends = self._make_streams(request.id, paths)
        await self._containers.create(request.id, request.bundle, rootfs, ends)
        self._paths[ProcessName(request.id)] = paths
        self._events.created(request)
        return task_pb2.CreateTaskResponse(pid=self._containers.host_pid)

    async def start(self, request: task_pb2.StartRequest) -> Message:
        await self._containers.find(request.id).start(request.exec_id)
        return task_pb2.StartResponse(pid=self._containers.host_pid)

    async def state(self, request: task_pb2.StateRequest) -> Message:
        container = self._containers.find(request.id)
        process = container.find_process(request.exec_id)
        paths = self._paths[process.name]
        answer = task_pb2.StateResponse(
            id=request.id,
            bundle=container.bundle,
            pid=self._containers.host_pid,
            status=STATUSES[process.state],
            stdin=paths.stdin,
            stdout=paths.stdout,
            stderr=paths.stderr,
            terminal=paths.terminal,
            exec_id=request.exec_id,
        )
        if request.exec_id and process.state is State.CREATED:
            answer.pid = 0
        if process.exit is not None:
            answer.exit_status = process.exit.status
            answer.exited_at.CopyFrom(make_timestamp(process.exit.at_ns))
        return answer

    async def wait(self, request: task_pb2.WaitRequest) -> Message:
        process = self._containers.find(request.id).find_process(request.exec_id)
        ended = await process.wait_exit()
        return task_pb2.WaitResponse(
            exit_status=ended.status, exited_at=make_timestamp(ended.at_ns)
        )

    async def kill(self, request: task_pb2.KillRequest) -> Message:
        if request.signal > MAX_SIGNAL:
            raise InvalidArgument(f"signal: expected 0 to {MAX_SIGNAL}, is {request.signal}")
        container = self._containers.find(request.id)
        await container.kill(request.exec_id, request.signal, request.all)
        return Empty()

    async def delete(self, request: task_pb2.DeleteRequest) -> Message:
        if request.exec_id:
            process = await self._containers.find(request.id).delete_exec(request.exec_id)
        else:
            process = (await self._containers.delete(request.id)).init
        self._forget_paths(process.name)
        answer = task_pb2.DeleteResponse(pid=self._containers.host_pid)
        if process.exit is not None:
            answer.exit_status = process.exit.status
            answer.exited_at.CopyFrom(make_timestamp(process.exit.at_ns))
        return answer

    async def exec(self, request: task_pb2.ExecProcessRequest) -> Message:
        check_id("exec_id", request.exec_id)
        container = self._containers.find(request.id)
        paths = read_paths(request)
        ends = self._make_streams(request.id, paths)
        container.add_exec(request.exec_id, request.spec.value, ends)
        self._paths[ProcessName(request.id, request.exec_id)] = paths
        return Empty()

    async def close_io(self, request: task_pb2.CloseIORequest) -> Message:
        process = self._containers.find(request.id).find_process(request.exec_id)
        if request.stdin:
            process.stdio.close_stdin()
        return Empty()

    async def resize_pty(self, request: task_pb2.ResizePtyRequest) -> Message:
        container = self._containers.find(request.id)
        await container.resize(request.exec_id, request.width, request.height)
        return Empty()

    async def pids(self, request: task_pb2.PidsRequest) -> Message:
        """The guest's processes that containerd knows, all with the one pid of the host.

        Never empty for an existing task: containerd would treat the task as leaked.
        """
        container = self._containers.find(request.id)
        pid = self._containers.host_pid
        processes = [task_pb2.ProcessInfo(pid=pid)]
        for exec_id, process in container.execs.items():
            if process.is_alive:
                details = pack_any(runc_pb2.ProcessDetails(exec_id=exec_id))
                processes.append(task_pb2.ProcessInfo(pid=pid, info=details))
        return task_pb2.PidsResponse(processes=processes)

    async def pause(self, request: task_pb2.PauseRequest) -> Message:
        await self._containers.find(request.id).pause()
        return Empty()

    async def resume(self, request: task_pb2.ResumeRequest) -> Message:
        await self._containers.find(request.id).resume()
        return Empty()

    async def update(self, request: task_pb2.UpdateTaskRequest) -> Message:
        await self._containers.update(request.id, request.resources.value)
        return Empty()

    async def stats(self, request: task_pb2.StatsRequest) -> Message:
        files = await self._containers.find(request.id).read_stats()
        build = build_metrics_v2 if host_has_cgroup2() else build_metrics_v1
        return task_pb2.StatsResponse(stats=pack_any(build(files)))

    async def checkpoint(self, request: task_pb2.CheckpointTaskRequest) -> Message:
        raise Unimplemented(f"container {request.id!r}: checkpoints are not supported")

    async def connect(self, request: task_pb2.ConnectRequest) -> Message:
        """containerd keeps this pid for the task."""
        return task_pb2.ConnectResponse(
            shim_pid=os.getpid(), task_pid=self._containers.host_pid, version=VERSION
        )

    async def shutdown(self, request: task_pb2.ShutdownRequest) -> Message:
        if self._containers.is_empty:
            self._shut_down()
        return Empty()

    def _make_streams(self, container_id: str, paths: StdioPaths) -> NamedStreams:
        return NamedStreams(paths, partial(self._start_logger, container_id))

    def _forget_paths(self, name: ProcessName) -> None:
        """For an init process, also the paths of its container's execs."""
        for known in list(self._paths):
            if known == name or (not name.exec_id and known.container_id == name.container_id):
                del self._paths[known]

    def _method(
        self,
        request_type: Any,
        function: Callable[[Any], Awaitable[Message]],
        waits: bool = False,
    ) -> Method:
        return Method(decode_with(request_type, function), waits)


def host_has_cgroup2() -> bool:
    return os.path.exists(CGROUP2_MARK)


def decode_with(request_type: Any, function: Callable[[Any], Awaitable[Message]]) -> Handler:
    async def handle(payload: bytes) -> bytes:
        try:
            request = request_type.FromString(payload)
        except DecodeError as error:
            name = request_type.DESCRIPTOR.full_name
            raise InvalidArgument(f"{name}: {error}") from error
        return (await function(request)).SerializeToString()

    return handle


def check_id(field: str, value: str) -> None:
    if len(value) > MAX_ID_BYTES or not IDENTIFIER.fullmatch(value):
        raise InvalidArgument(
            f"{field}: expected up to {MAX_ID_BYTES} letters, digits, '.', '_' and '-' between "
            f"them, is {value[:MAX_ID_BYTES]!r}"
        )


def read_mount(mount: types_pb2.Mount) -> HostMount:
    for text in (mount.type, mount.source, mount.target, *mount.options):
        check_shape(text, TEXT, "rootfs")
    return HostMount(mount.type, mount.source, mount.target, tuple(mount.options))


def read_paths(request: Any) -> StdioPaths:
    for name in ("stdin", "stdout", "stderr"):
        check_shape(getattr(request, name), TEXT, name)
    return StdioPaths(request.terminal, request.stdin, request.stdout, request.stderr)
