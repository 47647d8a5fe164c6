"""Calls of the Task service that ctr does not have, on the shim's own socket."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from proto.gen.containerd import task_pb2
from shim.ttrpc.client import connect_client

BUNDLES: Final = Path("/run/containerd/io.containerd.runtime.v2.task/default")
RESOURCES_URL: Final = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
TIMEOUT_S: Final = 60


def call_shim(container_id: str, method: str, request: Message) -> bytes:
    """StatusError as the shim answers it."""
    return asyncio.run(_call(container_id, method, request))


def update(container_id: str, resources: dict[str, Any]) -> None:
    """OCI LinuxResources, as CRI and nerdctl send them."""
    value = AnyMessage(type_url=RESOURCES_URL, value=json.dumps(resources).encode())
    request = task_pb2.UpdateTaskRequest(id=container_id, resources=value)
    call_shim(container_id, "Update", request)


async def _call(container_id: str, method: str, request: Message) -> bytes:
    address = (BUNDLES / container_id / "address").read_text()
    client = await connect_client(address.removeprefix("unix://"))
    try:
        payload = request.SerializeToString()
        return await client.call("containerd.task.v2.Task", method, payload, TIMEOUT_S)
    finally:
        await client.close()
