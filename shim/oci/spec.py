"""Reads what callers send as OCI runtime spec JSON: config.json and its parts.

Pure.  The text is untrusted: its size and nesting are bounded and every field
that sampan itself reads has its type checked here, once.  What only crun reads
is left to crun.  OCI runtime spec 1.2 config.md, config-linux.md.
"""

import json
from typing import Any, Final

from shim.errors import InvalidArgument
from shim.oci.shape import Flag, ListOf, MapOf, Record, Shape, Text, Whole, check_shape

MAX_SPEC_BYTES: Final = 8 << 20

TEXT: Final = Text()
TEXTS: Final = ListOf(TEXT)
ID: Final = Whole(0, (1 << 32) - 1)
SIZE: Final = Whole(-1)

USER: Final = Record({"uid": ID, "gid": ID, "umask": ID, "additionalGids": ListOf(ID)})
RLIMIT: Final = Record(
    {"type": Text(not_empty=True), "soft": Whole(0), "hard": Whole(0)},
    required=frozenset({"type"}),
)
CAPABILITIES: Final = MapOf(TEXTS)
PROCESS: Final = Record(
    {
        "terminal": Flag(),
        "user": USER,
        "args": ListOf(TEXT, min_items=1),
        "env": TEXTS,
        "cwd": Text(absolute=True),
        "capabilities": CAPABILITIES,
        "rlimits": ListOf(RLIMIT),
        "noNewPrivileges": Flag(),
        "apparmorProfile": TEXT,
        "selinuxLabel": TEXT,
        "oomScoreAdj": Whole(-1000, 1000),
    },
    required=frozenset({"args", "cwd"}),
)
MOUNT: Final = Record(
    {
        "destination": Text(not_empty=True),
        "type": TEXT,
        "source": TEXT,
        "options": TEXTS,
        "uidMappings": ListOf(MapOf(ID)),
        "gidMappings": ListOf(MapOf(ID)),
    },
    required=frozenset({"destination"}),
)
NAMESPACE: Final = Record(
    {"type": Text(not_empty=True), "path": TEXT}, required=frozenset({"type"})
)
CPU: Final = Record(
    {
        "shares": Whole(0),
        "quota": SIZE,
        "burst": Whole(0),
        "period": Whole(0),
        "realtimeRuntime": Whole(),
        "realtimePeriod": Whole(0),
        "cpus": TEXT,
        "mems": TEXT,
        "idle": Whole(),
    }
)
MEMORY: Final = Record(
    {"limit": SIZE, "reservation": SIZE, "swap": SIZE, "kernel": SIZE, "kernelTCP": SIZE}
)
RESOURCES: Final = Record(
    {
        "cpu": CPU,
        "memory": MEMORY,
        "pids": Record({"limit": Whole()}),
        "devices": ListOf(Record({"allow": Flag(), "type": TEXT, "access": TEXT})),
        "unified": MapOf(TEXT),
    }
)
LINUX: Final = Record(
    {
        "namespaces": ListOf(NAMESPACE),
        "resources": RESOURCES,
        "cgroupsPath": TEXT,
        "maskedPaths": TEXTS,
        "readonlyPaths": TEXTS,
        "mountLabel": TEXT,
        "sysctl": MapOf(TEXT),
        "seccomp": Record({"listenerPath": TEXT}),
        "rootfsPropagation": TEXT,
    }
)
HOOK: Final = Record(
    {"path": Text(absolute=True), "args": TEXTS, "env": TEXTS, "timeout": Whole(1)},
    required=frozenset({"path"}),
)
HOOK_NAMES: Final = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
SPEC: Final = Record(
    {
        "ociVersion": Text(not_empty=True),
        "root": Record({"path": Text(not_empty=True), "readonly": Flag()}, frozenset({"path"})),
        "process": PROCESS,
        "hostname": TEXT,
        "domainname": TEXT,
        "mounts": ListOf(MOUNT),
        "annotations": MapOf(TEXT),
        "hooks": Record({name: ListOf(HOOK) for name in HOOK_NAMES}),
        "linux": LINUX,
    },
    required=frozenset({"ociVersion", "root", "process"}),
)


def parse_spec(text: bytes) -> dict[str, Any]:
    """A whole config.json."""
    return parse_object(text, SPEC, "config.json")


def parse_process(text: bytes) -> dict[str, Any]:
    """The `process` object of an exec."""
    return parse_object(text, PROCESS, "process")


def parse_resources(text: bytes) -> dict[str, Any]:
    """The `linux.resources` object of an update."""
    return parse_object(text, RESOURCES, "resources")


def parse_object(text: bytes, shape: Shape, name: str) -> dict[str, Any]:
    if len(text) > MAX_SPEC_BYTES:
        raise InvalidArgument(f"{name}: {len(text)} bytes exceed {MAX_SPEC_BYTES}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument(f"{name}: expected an object, is {type(value).__name__}")
    check_shape(value, shape, "" if name == "config.json" else name)
    return value


def find_network(spec: dict[str, Any]) -> str | None:
    """The path of the container's network namespace; "" for a new one, None for the host's."""
    for namespace in (spec.get("linux") or {}).get("namespaces") or []:
        if namespace["type"] == "network":
            return namespace.get("path") or ""
    return None
