"""Translates a container's spec from the host's terms to the guest's.

Pure.  A program in the guest shall find, value by value, what it would find
under runc.  So everything is kept, with three exceptions.  Paths of the host
(root, bind mounts, namespaces, cgroups) become paths of the guest.  What the
guest's kernel cannot do, or what belongs to the host's hardware, is dropped.
What would silently mean something else inside a VM (the host's network, its
processes) is refused.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from proto.contract import GUEST_ROOTFS_DIR
from shim.errors import InvalidArgument
from shim.oci.annotations import EXCLUSIVE_ANNOTATION
from shim.oci.hooks import keep_guest_hooks
from shim.oci.mounts import Volume, translate_mounts

GUEST_NETWORK: Final = "/proc/self/ns/net"
"""The guest's own network namespace: naming it keeps crun from making another
and still lets net.* sysctls pass as the container's own."""
GUEST_CGROUP: Final = "/sampan"
SHARED_KINDS: Final = ("ipc", "uts", "pid")
"""Namespaces that containers of a pod may share."""
HOST_ONLY_KINDS: Final = {
    "network": "the host's network",
    "pid": "the host's processes",
}
PROCESS_NAMESPACE: Final = re.compile(r"/proc/(\d+)/ns/(\w+)")
CRUN_ANNOTATIONS: Final = ("run.oci.", "org.systemd.property.")
"""Instructions to crun, which runc ignores."""

DROPPED_RESOURCES: Final = ("blockIO", "hugepageLimits", "network", "rdma")
"""Limits on the host's devices and pages; the guest has none of them."""
DROPPED_CPU: Final = ("cpus", "mems", "realtimeRuntime", "realtimePeriod")
"""The host's processor numbers; real-time limits, which cgroup v2 does not have."""
DROPPED_MEMORY: Final = (
    "kernel",
    "kernelTCP",
    "swappiness",
    "disableOOMKiller",
    "useHierarchy",
    "checkBeforeUpdate",
)
"""cgroup v1 only: runc ignores them on cgroup v2, crun would refuse them."""


@dataclass(frozen=True, slots=True)
class Rlimit:
    type: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class HostContext:
    """What follows from the host and the sandbox."""

    bundle: str
    terminal: bool
    rlimits: tuple[Rlimit, ...] = ()
    """The caller's: defaults for a process whose spec has none."""
    host_pid: int = 0
    """The pid by which the host knows every container of this sandbox."""
    sandbox_guest_pid: int = 0
    """Pid in the guest of the sandbox's first container; 0 for that one itself."""
    shares_guest: bool = False
    """What the spec shares with the host is shared with the guest instead."""


@dataclass(frozen=True, slots=True)
class GuestSpec:
    document: dict[str, Any]
    volumes: tuple[Volume, ...]


def translate_spec(spec: dict[str, Any], container_id: str, context: HostContext) -> GuestSpec:
    annotations = spec.get("annotations") or {}
    mounts, volumes = translate_mounts(
        spec.get("mounts") or [],
        container_id,
        context.bundle,
        annotations.get(EXCLUSIVE_ANNOTATION, ""),
    )
    document = {
        **spec,
        "root": {**spec["root"], "path": f"{GUEST_ROOTFS_DIR}/{container_id}"},
        "process": translate_process(spec["process"], context.terminal, context.rlimits),
        "mounts": mounts,
        "hooks": keep_guest_hooks(spec.get("hooks") or {}),
        "annotations": translate_annotations(annotations),
        "linux": translate_linux(spec.get("linux") or {}, container_id, context),
    }
    return GuestSpec(document, volumes)


def translate_process(
    process: dict[str, Any], terminal: bool, rlimits: tuple[Rlimit, ...]
) -> dict[str, Any]:
    """An init process or an exec."""
    kept = without(process, ("apparmorProfile", "selinuxLabel"))
    listed = process.get("rlimits") or []
    named = {limit["type"] for limit in listed}
    inherited = [
        {"type": limit.type, "soft": limit.soft, "hard": limit.hard}
        for limit in rlimits
        if limit.type not in named
    ]
    return {**kept, "terminal": terminal, "rlimits": [*listed, *inherited]}


def translate_annotations(annotations: dict[str, str]) -> dict[str, str]:
    return {
        key: value for key, value in annotations.items() if not key.startswith(CRUN_ANNOTATIONS)
    }


def translate_linux(
    linux: dict[str, Any], container_id: str, context: HostContext
) -> dict[str, Any]:
    kept = without(linux, ("mountLabel", "intelRdt"))
    kept["cgroupsPath"] = f"{GUEST_CGROUP}/{container_id}"
    kept["namespaces"] = translate_namespaces(linux.get("namespaces") or [], context)
    if linux.get("resources"):
        kept["resources"] = translate_resources(linux["resources"])
    if linux.get("seccomp"):
        kept["seccomp"] = without(linux["seccomp"], ("listenerPath", "listenerMetadata"))
    return kept


def translate_namespaces(
    namespaces: list[dict[str, Any]], context: HostContext
) -> list[dict[str, Any]]:
    present = {namespace["type"] for namespace in namespaces}
    for kind, meaning in HOST_ONLY_KINDS.items():
        if kind not in present and not context.shares_guest:
            raise InvalidArgument(
                f"linux.namespaces: no {kind} namespace: a container in a microVM cannot share "
                f"{meaning} (host_namespaces: guest in sampan's configuration gives it the guest's)"
            )
    return [
        translate_namespace(namespace, f"linux.namespaces[{index}].path", context)
        for index, namespace in enumerate(namespaces)
    ]


def translate_namespace(
    namespace: dict[str, Any], field: str, context: HostContext
) -> dict[str, Any]:
    kind, path = namespace["type"], namespace.get("path") or ""
    if kind == "network":
        return {"type": kind, "path": GUEST_NETWORK}
    if not path:
        return {"type": kind}
    named = PROCESS_NAMESPACE.fullmatch(path)
    ours = named is not None and int(named[1]) == context.host_pid
    if ours and kind in SHARED_KINDS and context.sandbox_guest_pid:
        return {"type": kind, "path": f"/proc/{context.sandbox_guest_pid}/ns/{kind}"}
    if kind in ("mount", "cgroup"):
        return {"type": kind}
    raise InvalidArgument(
        f"{field}: {path!r}: a container in a microVM cannot join a namespace of the host"
    )


def translate_resources(resources: dict[str, Any]) -> dict[str, Any]:
    """The limits that the guest's cgroup v2 enforces; also for an update."""
    kept = without(resources, DROPPED_RESOURCES)
    for name, dropped in (("cpu", DROPPED_CPU), ("memory", DROPPED_MEMORY)):
        if resources.get(name):
            kept[name] = without(resources[name], dropped)
    return kept


def without(value: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: child for key, child in value.items() if key not in names}
