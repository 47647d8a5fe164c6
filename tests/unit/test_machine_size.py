"""The size of a container's machine; the sandbox and the network that its spec
names."""

from typing import Any

import pytest

from shim.errors import InvalidArgument
from shim.machine.size import MIB, MachineSize, SizeRules, size_machine
from shim.oci.annotations import find_group
from shim.oci.spec import find_network

RULES = SizeRules(
    vcpus=1, max_vcpus=4, memory_mib=1024, memory_overhead_mib=128, max_memory_mib=8192
)


def size(cpu: Any = None, memory: Any = None, **annotations: str) -> MachineSize:
    spec = {
        "linux": {"resources": {"cpu": cpu, "memory": memory}},
        "annotations": {name.replace("__", "."): value for name, value in annotations.items()},
    }
    return size_machine(spec, RULES)


def test_without_limits_the_configuration_decides() -> None:
    assert size_machine({}, RULES) == MachineSize(1, 1024 * MIB)
    assert size() == MachineSize(1, 1024 * MIB)


@pytest.mark.parametrize(
    ("quota", "period", "vcpus"),
    [(50_000, 100_000, 1), (100_000, 100_000, 1), (100_001, 100_000, 2), (900_000, 100_000, 4)],
)
def test_vcpus_are_the_quota_rounded_up_and_bounded(quota: int, period: int, vcpus: int) -> None:
    assert size(cpu={"quota": quota, "period": period}).vcpus == vcpus


def test_the_kernels_default_period_counts_where_none_is_given() -> None:
    assert size(cpu={"quota": 200_000}).vcpus == 2
    assert size(cpu={"quota": 200_000, "period": 0}).vcpus == 2


@pytest.mark.parametrize("quota", [-1, 0])
def test_no_quota_is_no_limit(quota: int) -> None:
    assert size(cpu={"quota": quota, "period": 100_000}).vcpus == 1


@pytest.mark.parametrize(
    ("limit", "mib"),
    [
        *((1, 256), (128 * MIB, 256), (128 * MIB + 1, 512), (256 * MIB, 512)),
        *((384 * MIB, 512), (385 * MIB, 1024), (1 << 50, 8192), (-1, 1024)),
    ],
)
def test_memory_is_the_limit_plus_overhead_rounded_up_and_bounded(limit: int, mib: int) -> None:
    assert size(memory={"limit": limit}).memory_bytes == mib * MIB


def test_annotations_come_first() -> None:
    spec = {
        "linux": {"resources": {"cpu": {"quota": 400_000}, "memory": {"limit": MIB}}},
        "annotations": {"dev.sampan.vcpus": "3", "dev.sampan.memory_mib": "512"},
    }
    assert size_machine(spec, RULES) == MachineSize(3, 512 * MIB)


@pytest.mark.parametrize("value", ["0", "5", "-1", "two", "", "1.5", "9" * 30, "٣"])
def test_a_bad_annotation_is_refused_by_name_and_value(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"dev\.sampan\.vcpus.*from 1 to 4"):
        size_machine({"annotations": {"dev.sampan.vcpus": value}}, RULES)


def test_a_pods_annotations_size_the_pods_machine() -> None:
    annotations = {
        "io.kubernetes.cri.sandbox-cpu-quota": "300000",
        "io.kubernetes.cri.sandbox-cpu-period": "100000",
        "io.kubernetes.cri.sandbox-memory": str(100 * MIB),
    }
    assert size_machine({"annotations": annotations}, RULES) == MachineSize(3, 256 * MIB)


def test_group_annotations_name_the_sandbox() -> None:
    cri = {"io.kubernetes.cri.sandbox-id": "pod"}
    assert find_group({}) == ""
    assert find_group(cri) == "pod"
    assert find_group({**cri, "io.containerd.runc.v2.group": "group"}) == "group"


@pytest.mark.parametrize(
    ("namespaces", "found"),
    [
        ([{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}], "/run/netns/x"),
        ([{"type": "network"}], ""),
        ([{"type": "network", "path": None}], ""),
        ([{"type": "pid"}], None),
        (None, None),
    ],
)
def test_the_network_namespace_is_named_new_or_the_hosts(
    namespaces: Any, found: str | None
) -> None:
    assert find_network({"linux": {"namespaces": namespaces}}) == found
