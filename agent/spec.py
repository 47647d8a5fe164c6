"""The parts of OCI documents that the agent itself reads: ids, cgroup, user,
program.  Pure.

Spec: OCI runtime-spec 1.2, config.md and config-linux.md.  crun checks everything
else in them.
"""

import json
import re
from typing import Any, Final, NamedTuple

from agent.errors import InvalidArgument
from proto import contract

ID: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
CGROUP_PARENT: Final = "/sampan"
MAX_UID: Final = (1 << 32) - 1


class ProcessSpec(NamedTuple):
    """An OCI `process`: the document of an exec, or the init process in a
    container's document."""

    document: dict[str, Any]
    program: str
    uid: int
    """The user as the guest's kernel knows it, that is outside the user namespace."""


class ContainerSpec(NamedTuple):
    document: dict[str, Any]
    cgroup_path: str
    init: ProcessSpec
    shared_paths: tuple[str, ...]
    """Paths on the host's shares: the root and the volumes."""


def check_id(text: str, field: str) -> str:
    if len(text.encode()) > contract.MAX_ID_BYTES:
        raise InvalidArgument(f"{field}: longer than {contract.MAX_ID_BYTES} bytes: {text!r}")
    if not ID.fullmatch(text) or text in (".", ".."):
        raise InvalidArgument(f"{field}: {text!r} is not letters, digits, '_', '.' and '-'")
    return text


def parse_object(text: bytes, field: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{field}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument(f"{field}: not an object but {type(document).__name__}")
    return document


def parse_container(text: bytes, container_id: str, terminal: bool) -> ContainerSpec:
    document = parse_object(text, "spec_json")
    linux = take_object(document, "linux")
    cgroup_path = linux.setdefault("cgroupsPath", f"{CGROUP_PARENT}/{container_id}")
    check_cgroup_path(cgroup_path)
    init = take_process(document.get("process"), "spec_json.process", terminal)
    outside = map_uid(init.uid, linux.get("uidMappings") or [])
    return ContainerSpec(
        document, cgroup_path, init._replace(uid=outside), list_shared_paths(document)
    )


def parse_exec(text: bytes, terminal: bool) -> ProcessSpec:
    return take_process(parse_object(text, "process_json"), "process_json", terminal)


def take_object(document: dict[str, Any], field: str) -> dict[str, Any]:
    if document.get(field) is None:
        document[field] = {}
    value = document[field]
    if not isinstance(value, dict):
        raise InvalidArgument(f"spec_json.{field}: not an object but {type(value).__name__}")
    return value


def take_process(process: object, field: str, terminal: bool) -> ProcessSpec:
    if not isinstance(process, dict):
        raise InvalidArgument(f"{field}: not an object but {type(process).__name__}")
    arguments = process.get("args")
    if not isinstance(arguments, list) or not arguments:
        raise InvalidArgument(
            f"{field}.args: expected a program and its arguments, is {arguments!r}"
        )
    process["terminal"] = terminal
    uid = (process.get("user") or {}).get("uid", 0)
    if not isinstance(uid, int) or not 0 <= uid <= MAX_UID:
        raise InvalidArgument(f"{field}.user.uid: expected 0 to {MAX_UID}, is {uid!r}")
    return ProcessSpec(process, str(arguments[0]), uid)


def list_shared_paths(document: dict[str, Any]) -> tuple[str, ...]:
    paths = [take_object(document, "root").get("path")]
    paths += [mount.get("source") for mount in document.get("mounts") or []]
    shares = (f"{contract.GUEST_ROOTFS_DIR}/", f"{contract.GUEST_VOLUMES_DIR}/")
    return tuple(path for path in paths if isinstance(path, str) and path.startswith(shares))


def check_cgroup_path(path: object) -> None:
    """It must be below CGROUP_PARENT, so that no container reaches the agent's own
    cgroup."""
    parts = path.split("/") if isinstance(path, str) else []
    inside = len(parts) > 2 and parts[0] == "" and parts[1] == CGROUP_PARENT[1:]
    if not inside or any(part in ("", ".", "..") for part in parts[1:]):
        raise InvalidArgument(
            f"spec_json.linux.cgroupsPath: {path!r} is not a path below {CGROUP_PARENT}"
        )


def map_uid(uid: int, mappings: list[dict[str, int]]) -> int:
    """Maps an id inside a user namespace to the one outside; unmapped ids stay as they
    are."""
    for mapping in mappings:
        first, count = mapping["containerID"], mapping["size"]
        if first <= uid < first + count:
            return int(mapping["hostID"]) + uid - first
    return uid
