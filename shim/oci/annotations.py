"""The annotations of a container's spec that sampan reads, and which sandbox they name.

Pure, and the one list of them.  `start` imports it (shim/containerd/start.py): no
import that takes milliseconds, so no typing.
"""

GROUP_ANNOTATIONS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
"""The first one present counts, as in containerd's shim for runc."""
POD_QUOTA_ANNOTATION = "io.kubernetes.cri.sandbox-cpu-quota"
POD_PERIOD_ANNOTATION = "io.kubernetes.cri.sandbox-cpu-period"
POD_SHARES_ANNOTATION = "io.kubernetes.cri.sandbox-cpu-shares"
POD_MEMORY_ANNOTATION = "io.kubernetes.cri.sandbox-memory"
VCPUS_ANNOTATION = "dev.sampan.vcpus"
MEMORY_ANNOTATION = "dev.sampan.memory_mib"
EXCLUSIVE_ANNOTATION = "dev.sampan.exclusive_volumes"
"""Destinations of exclusive volumes, separated by commas: only the container changes them."""


def find_group(annotations: dict[str, str]) -> str:
    """The sandbox that a container belongs to; "" when none is named."""
    return next((annotations[name] for name in GROUP_ANNOTATIONS if annotations.get(name)), "")
