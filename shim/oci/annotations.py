"""The annotations of a container's spec that sampan reads, and which sandbox they name.

Pure, and the one list of them.  `start` imports it (shim/containerd/start.py): no
import that takes milliseconds, so no typing.
"""

import re

from shim.errors import InvalidArgument

GROUP_ANNOTATIONS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
"""The first one present counts, as in containerd's shim for runc."""
POD_NAMESPACE_ANNOTATION = "io.kubernetes.cri.sandbox-namespace"
POD_QUOTA_ANNOTATION = "io.kubernetes.cri.sandbox-cpu-quota"
POD_PERIOD_ANNOTATION = "io.kubernetes.cri.sandbox-cpu-period"
POD_SHARES_ANNOTATION = "io.kubernetes.cri.sandbox-cpu-shares"
POD_MEMORY_ANNOTATION = "io.kubernetes.cri.sandbox-memory"
VCPUS_ANNOTATION = "dev.sampan.vcpus"
MEMORY_ANNOTATION = "dev.sampan.memory_mib"
EXCLUSIVE_ANNOTATION = "dev.sampan.exclusive_volumes"
"""Destinations of exclusive volumes, separated by commas: only the container changes them."""

MAX_NAMESPACE = 253
POD_NAMESPACE = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_NAMESPACE}}}", re.ASCII)


def find_group(annotations: dict[str, str]) -> str:
    """The sandbox that a container belongs to; "" when none is named."""
    return next((annotations[name] for name in GROUP_ANNOTATIONS if annotations.get(name)), "")


def find_tenant(namespace: str, annotations: dict[str, str]) -> str:
    """Whose container it is: the client's namespace, for pods of CRI with that of the pod."""
    pod = annotations.get(POD_NAMESPACE_ANNOTATION)
    if not pod:
        return namespace
    if not POD_NAMESPACE.fullmatch(pod):
        raise InvalidArgument(
            f"annotations[{POD_NAMESPACE_ANNOTATION!r}]: expected the name of a namespace, "
            f"is {pod[:MAX_NAMESPACE]!r}"
        )
    return f"{namespace}/{pod}"
