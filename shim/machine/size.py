"""How large a container's machine has to be.

Pure: from the limits of the container or of its pod, from our annotations
(shim/oci/annotations.py), else from the configuration.
"""

from dataclasses import dataclass
from typing import Any, Final

from shim.errors import InvalidArgument
from shim.oci.annotations import (
    MEMORY_ANNOTATION,
    POD_MEMORY_ANNOTATION,
    POD_PERIOD_ANNOTATION,
    POD_QUOTA_ANNOTATION,
    VCPUS_ANNOTATION,
)

DEFAULT_PERIOD_US: Final = 100_000
MIB: Final = 1 << 20
SMALLEST_CLASS_MIB: Final = 256


@dataclass(frozen=True, slots=True)
class SizeRules:
    """The configuration's defaults and bounds, and the host's processors."""

    vcpus: int
    max_vcpus: int
    memory_mib: int
    memory_overhead_mib: int
    max_memory_mib: int


@dataclass(frozen=True, slots=True)
class MachineSize:
    vcpus: int
    memory_bytes: int


def size_machine(spec: dict[str, Any], rules: SizeRules) -> MachineSize:
    resources = (spec.get("linux") or {}).get("resources") or {}
    annotations = spec.get("annotations") or {}
    return MachineSize(
        vcpus=choose_vcpus(resources.get("cpu") or {}, annotations, rules),
        memory_bytes=choose_memory_mib(resources.get("memory") or {}, annotations, rules) * MIB,
    )


def choose_vcpus(cpu: dict[str, Any], annotations: dict[str, str], rules: SizeRules) -> int:
    asked = read_annotation(annotations, VCPUS_ANNOTATION, 1, rules.max_vcpus)
    if asked is not None:
        return asked
    quota = read_number(annotations, POD_QUOTA_ANNOTATION) or cpu.get("quota") or 0
    period = read_number(annotations, POD_PERIOD_ANNOTATION) or cpu.get("period") or 0
    if quota <= 0:
        return min(rules.vcpus, rules.max_vcpus)
    whole = -(-quota // (period or DEFAULT_PERIOD_US))
    return min(whole, rules.max_vcpus)


def choose_memory_mib(memory: dict[str, Any], annotations: dict[str, str], rules: SizeRules) -> int:
    asked = read_annotation(annotations, MEMORY_ANNOTATION, 64, rules.max_memory_mib)
    if asked is not None:
        return asked
    limit = read_number(annotations, POD_MEMORY_ANNOTATION) or memory.get("limit") or 0
    if limit <= 0:
        return rules.memory_mib
    return min(round_up(-(-limit // MIB) + rules.memory_overhead_mib), rules.max_memory_mib)


def round_up(memory_mib: int) -> int:
    """To a power of two, so that few templates serve many limits.

    A guest uses only what it touches; its cgroups enforce the containers' limits.
    """
    return max(SMALLEST_CLASS_MIB, 1 << (memory_mib - 1).bit_length())


def read_annotation(annotations: dict[str, str], name: str, low: int, high: int) -> int | None:
    """One of ours: a person wrote it, so a bad value is refused."""
    text = annotations.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not low <= int(text[:9]) <= high:
        raise InvalidArgument(
            f"annotations[{name!r}]: expected a whole number from {low} to {high}, is {text!r}"
        )
    return int(text[:9])


def read_number(annotations: dict[str, str], name: str) -> int:
    """One of CRI's: containerd wrote it; a value that is no number counts as absent."""
    try:
        return int(annotations.get(name) or "0")
    except ValueError:
        return 0
