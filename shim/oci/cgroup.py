"""Which cgroup of the host a spec names, and the pod's limits there.

Pure.  OCI runtime spec config-linux.md "Control groups"; systemd's names as in
systemd.slice(5) and systemd.scope(5); files as in the kernel's admin-guide/cgroup-v2.rst.
"""

from typing import Any, Final

from shim.errors import InvalidArgument
from shim.oci.annotations import (
    POD_PERIOD_ANNOTATION,
    POD_QUOTA_ANNOTATION,
    POD_SHARES_ANNOTATION,
)

SLICE: Final = ".slice"
ROOT_SLICE: Final = "-.slice"
SYSTEM_SLICE: Final = "system.slice"
DEFAULT_PERIOD_US: Final = 100_000
LEAST_SHARES, MOST_SHARES = 2, 262_144
MOST_WEIGHT: Final = 10_000
MAX_PATH_BYTES: Final = 4096


def find_cgroup(spec: dict[str, Any]) -> str:
    """Its path below the root of the hierarchy, without a slash in front; "" for none.

    InvalidArgument for a path that leaves the hierarchy.
    """
    text = (spec.get("linux") or {}).get("cgroupsPath") or ""
    if not text:
        return ""
    path = translate_systemd(text) if text.count(":") == 2 and "/" not in text else text
    parts = [part for part in path.split("/") if part]
    if ".." in parts or "." in parts or not path.isprintable() or len(path) > MAX_PATH_BYTES:
        raise InvalidArgument(
            f"linux.cgroupsPath: expected a path or slice:prefix:name, is {text!r}"
        )
    return "/".join(parts)


def translate_systemd(text: str) -> str:
    """`slice:prefix:name` as the path that systemd would give the scope.

    a-b.slice is in a.slice, and "" means system.slice.
    """
    parent, prefix, name = text.split(":")
    parent = parent or SYSTEM_SLICE
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not parent.endswith(SLICE) or not name:
        raise InvalidArgument(f"linux.cgroupsPath: expected slice:prefix:name, is {text!r}")
    if parent == ROOT_SLICE:
        return unit
    words = parent.removesuffix(SLICE).split("-")
    if not all(words):
        raise InvalidArgument(f"linux.cgroupsPath: {parent!r} is no name of a slice")
    slices = ["-".join(words[: count + 1]) + SLICE for count in range(len(words))]
    return "/".join((*slices, unit))


def limit_processors(spec: dict[str, Any]) -> dict[str, str]:
    """The cgroup v2 files that limit the CPUs of the pod or, without one, the container."""
    cpu = ((spec.get("linux") or {}).get("resources") or {}).get("cpu") or {}
    annotations = spec.get("annotations") or {}
    quota = read_count(annotations, POD_QUOTA_ANNOTATION) or cpu.get("quota") or 0
    period = read_count(annotations, POD_PERIOD_ANNOTATION) or cpu.get("period") or 0
    shares = read_count(annotations, POD_SHARES_ANNOTATION) or cpu.get("shares") or 0
    limits = {}
    if quota > 0:
        limits["cpu.max"] = f"{quota} {period or DEFAULT_PERIOD_US}"
    if shares > 0:
        limits["cpu.weight"] = str(weigh(shares))
    for name in ("cpus", "mems"):
        if cpu.get(name):
            limits[f"cpuset.{name}"] = cpu[name]
    return limits


def change_processors(resources: dict[str, Any]) -> dict[str, str]:
    """The files that an update's `linux.resources` change; a quota of -1 ends the limit."""
    limits = limit_processors({"linux": {"resources": resources}})
    if ((resources.get("cpu") or {}).get("quota") or 0) < 0:
        limits["cpu.max"] = "max"
    return limits


def weigh(shares: int) -> int:
    """cgroup v1's shares as v2's weight, by the formula of runc and the kubelet."""
    shares = min(max(shares, LEAST_SHARES), MOST_SHARES)
    return 1 + (shares - LEAST_SHARES) * (MOST_WEIGHT - 1) // (MOST_SHARES - LEAST_SHARES)


def read_count(annotations: dict[str, str], name: str) -> int:
    """One of containerd's; a value that is no number counts as absent."""
    try:
        return int(annotations.get(name) or "0")
    except ValueError:
        return 0
