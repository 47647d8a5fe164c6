"""What happens to tasks, in containerd's event messages.

Owns no state: turns processes and containers into events for the Publisher.
"""

from google.protobuf.message import Message

from proto.gen.containerd import events_pb2, task_pb2
from shim.containerd.publisher import Publisher
from shim.sandbox.process import TaskProcess


class Announcer:
    """`pid` is the task pid of every process: that of the vmm."""

    def __init__(self, publisher: Publisher, pid: int) -> None:
        self._publisher = publisher
        self._pid = pid

    def created(self, request: "task_pb2.CreateTaskRequest") -> None:
        event = events_pb2.TaskCreate(
            container_id=request.id,
            bundle=request.bundle,
            rootfs=request.rootfs,
            io=events_pb2.TaskIO(
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr,
                terminal=request.terminal,
            ),
            checkpoint=request.checkpoint,
            pid=self._pid,
        )
        self._publish("create", event)

    def started(self, process: TaskProcess) -> None:
        name = process.name
        if name.exec_id:
            exec_started = events_pb2.TaskExecStarted(
                container_id=name.container_id, exec_id=name.exec_id, pid=self._pid
            )
            self._publish("exec-started", exec_started)
        else:
            started = events_pb2.TaskStart(container_id=name.container_id, pid=self._pid)
            self._publish("start", started)

    def exec_added(self, process: TaskProcess) -> None:
        name = process.name
        event = events_pb2.TaskExecAdded(container_id=name.container_id, exec_id=name.exec_id)
        self._publish("exec-added", event)

    def exited(self, process: TaskProcess) -> None:
        ended = process.known_exit
        event = events_pb2.TaskExit(
            container_id=process.name.container_id,
            id=process.name.exec_id or process.name.container_id,
            pid=self._pid,
            exit_status=ended.status,
            exited_at=ended.at,
        )
        self._publish("exit", event)

    def deleted(self, process: TaskProcess) -> None:
        ended = process.known_exit
        event = events_pb2.TaskDelete(
            container_id=process.name.container_id,
            pid=self._pid,
            exit_status=ended.status,
            exited_at=ended.at,
            id=process.name.exec_id,
        )
        self._publish("delete", event)

    def paused(self, container_id: str) -> None:
        self._publish("paused", events_pb2.TaskPaused(container_id=container_id))

    def resumed(self, container_id: str) -> None:
        self._publish("resumed", events_pb2.TaskResumed(container_id=container_id))

    def out_of_memory(self, container_id: str) -> None:
        self._publish("oom", events_pb2.TaskOOM(container_id=container_id))

    def _publish(self, topic: str, event: Message) -> None:
        self._publisher.publish(f"/tasks/{topic}", event)
