"""The core's events as containerd's messages: the one place where they are translated.

Owns no state: turns what happens to containers into messages for the Publisher.
"""

from google.protobuf.message import Message

from proto.gen.containerd import events_pb2, task_pb2
from shim.containerd.messages import make_timestamp
from shim.containerd.publisher import Publisher
from shim.guest.values import ProcessName
from shim.sandbox.events import (
    ContainerDeleted,
    ContainerPaused,
    ContainerResumed,
    Event,
    ExecAdded,
    OutOfMemory,
    ProcessExited,
    ProcessStarted,
)


class EventPublisher:
    """The core's Listener.  `pid` is the task pid of every process: that of the vmm."""

    def __init__(self, publisher: Publisher, pid: int) -> None:
        self._publisher = publisher
        self._pid = pid

    def handle(self, event: Event) -> None:
        topic, message = translate_event(event, self._pid)
        self._publish(topic, message)

    def created(self, request: "task_pb2.CreateTaskRequest") -> None:
        """Needs the request, which the core does not know: it is in containerd's terms."""
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

    def _publish(self, topic: str, event: Message) -> None:
        self._publisher.publish(f"/tasks/{topic}", event)


def translate_event(event: Event, pid: int) -> tuple[str, Message]:
    """The topic below /tasks/, and the message."""
    match event:
        case ProcessStarted(process):
            return translate_start(process, pid)
        case ExecAdded(process):
            added = events_pb2.TaskExecAdded(
                container_id=process.container_id, exec_id=process.exec_id
            )
            return "exec-added", added
        case ProcessExited():
            return "exit", translate_exit(event, pid)
        case ContainerDeleted():
            return "delete", translate_deletion(event, pid)
        case _:
            return translate_change(event)


def translate_change(
    event: ContainerPaused | ContainerResumed | OutOfMemory,
) -> tuple[str, Message]:
    match event:
        case ContainerPaused(container_id):
            return "paused", events_pb2.TaskPaused(container_id=container_id)
        case ContainerResumed(container_id):
            return "resumed", events_pb2.TaskResumed(container_id=container_id)
        case OutOfMemory(container_id):
            return "oom", events_pb2.TaskOOM(container_id=container_id)


def translate_start(name: ProcessName, pid: int) -> tuple[str, Message]:
    if name.exec_id:
        return "exec-started", events_pb2.TaskExecStarted(
            container_id=name.container_id, exec_id=name.exec_id, pid=pid
        )
    return "start", events_pb2.TaskStart(container_id=name.container_id, pid=pid)


def translate_exit(event: ProcessExited, pid: int) -> Message:
    name = event.process
    return events_pb2.TaskExit(
        container_id=name.container_id,
        id=name.exec_id or name.container_id,
        pid=pid,
        exit_status=event.exit.status,
        exited_at=make_timestamp(event.exit.at_ns),
    )


def translate_deletion(event: ContainerDeleted, pid: int) -> Message:
    return events_pb2.TaskDelete(
        container_id=event.container_id,
        pid=pid,
        exit_status=event.exit.status,
        exited_at=make_timestamp(event.exit.at_ns),
    )
