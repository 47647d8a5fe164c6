"""From linux.cgroupsPath and a pod's limits to cgroup v2, as runc and systemd do."""

from typing import Any

import pytest

from shim.errors import InvalidArgument
from shim.oci.cgroup import change_processors, find_cgroup, limit_processors, weigh


def spec(path: object = None, **cpu: Any) -> dict[str, Any]:
    return {"linux": {"cgroupsPath": path, "resources": {"cpu": cpu}}}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (None, ""),
        ("", ""),
        ("/default/c1", "default/c1"),
        ("relative/c1", "relative/c1"),
        ("/kubepods/besteffort/pod1/c1", "kubepods/besteffort/pod1/c1"),
        (
            "kubepods-burstable-pod1.slice:cri-containerd:c1",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/"
            "cri-containerd-c1.scope",
        ),
        ("system.slice:docker:c1", "system.slice/docker-c1.scope"),
        (":docker:c1", "system.slice/docker-c1.scope"),
        ("-.slice:docker:c1", "docker-c1.scope"),
        ("a.slice::c1", "a.slice/c1.scope"),
    ],
)
def test_a_path_or_systemds_three_words(text: object, path: str) -> None:
    assert find_cgroup(spec(text)) == path


@pytest.mark.parametrize(
    "text",
    ["/a/../../b", "../b", "a\nb", "a.slice:p:", "pod1:cri:c1", "a--b.slice:p:c", "/" + "x" * 5000],
)
def test_a_path_that_leads_elsewhere_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"linux\.cgroupsPath: "):
        find_cgroup(spec(text))


def test_processors_are_the_containers() -> None:
    described = spec("/c", quota=150000, period=100000, shares=1024, cpus="0-1", mems="0")
    assert limit_processors(described) == {
        "cpu.max": "150000 100000",
        "cpu.weight": "39",
        "cpuset.cpus": "0-1",
        "cpuset.mems": "0",
    }


def test_processors_of_a_pod_are_its_annotations() -> None:
    described = {
        **spec("/c", quota=1, period=2, shares=3),
        "annotations": {
            "io.kubernetes.cri.sandbox-cpu-quota": "200000",
            "io.kubernetes.cri.sandbox-cpu-period": "100000",
            "io.kubernetes.cri.sandbox-cpu-shares": "2048",
        },
    }
    assert limit_processors(described) == {"cpu.max": "200000 100000", "cpu.weight": "79"}


def test_without_limits_nothing_is_written() -> None:
    assert limit_processors(spec("/c", quota=-1, shares=0)) == {}


@pytest.mark.parametrize(
    ("shares", "weight"), [(1, 1), (2, 1), (1024, 39), (262144, 10000), (10**9, 10000)]
)
def test_shares_are_weights_as_runc_has_them(shares: int, weight: int) -> None:
    assert weigh(shares) == weight


def test_an_update_changes_what_it_names() -> None:
    assert change_processors({"cpu": {"quota": 50_000, "shares": 1024}}) == {
        "cpu.max": "50000 100000",
        "cpu.weight": "39",
    }
    assert change_processors({"memory": {"limit": 1 << 30}}) == {}


def test_an_updates_quota_of_minus_one_ends_the_limit() -> None:
    assert change_processors({"cpu": {"quota": -1}}) == {"cpu.max": "max"}
