"""Host spec to guest spec: what is translated, dropped, refused and kept unchanged."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from shim.errors import InvalidArgument
from shim.oci.guest import (
    GUEST_NETWORK,
    HostContext,
    Rlimit,
    translate_process,
    translate_resources,
    translate_spec,
)

AROUND = HostContext(bundle="/bundle", terminal=False, host_pid=77)
SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs", "readonly": True},
    "process": {
        "args": ["sh"],
        "cwd": "/work",
        "env": ["A=b"],
        "user": {"uid": 5, "gid": 6},
        "noNewPrivileges": True,
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
        "apparmorProfile": "docker-default",
        "selinuxLabel": "system_u:x",
        "oomScoreAdj": 100,
    },
    "hostname": "box",
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {
        "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "mount"}, {"type": "ipc"}],
        "cgroupsPath": "/default/box",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "system_u:x",
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/x.sock"},
        "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
    },
}


def translate(around: HostContext = AROUND, **changes: Any) -> dict[str, Any]:
    spec = {**copy.deepcopy(SPEC), **changes}
    return translate_spec(spec, "box", around).document


def with_namespaces(*namespaces: dict[str, Any]) -> dict[str, Any]:
    linux = {**SPEC["linux"], "namespaces": list(namespaces)}
    return {"linux": linux}


def test_what_a_program_can_see_is_kept_value_by_value() -> None:
    guest = translate()
    for name in ("args", "cwd", "env", "user", "noNewPrivileges", "capabilities", "oomScoreAdj"):
        assert guest["process"][name] == SPEC["process"][name]
    assert guest["hostname"] == "box"
    assert guest["root"]["readonly"] is True
    for name in ("maskedPaths", "readonlyPaths", "sysctl", "devices"):
        assert guest["linux"][name] == SPEC["linux"][name]


def test_paths_of_the_host_become_the_guests() -> None:
    guest = translate()
    assert guest["root"]["path"] == "/run/sampan/rootfs/box"
    assert guest["linux"]["cgroupsPath"] == "/sampan/box"


def test_labels_and_listeners_of_the_host_are_dropped() -> None:
    guest = translate()
    assert not {"apparmorProfile", "selinuxLabel"} & set(guest["process"])
    assert "mountLabel" not in guest["linux"]
    assert guest["linux"]["seccomp"] == {"defaultAction": "SCMP_ACT_ERRNO"}


def test_the_host_spec_is_left_as_it_was() -> None:
    before = copy.deepcopy(SPEC)
    translate_spec(SPEC, "box", AROUND)
    assert before == SPEC


def test_the_network_namespace_becomes_the_guests_own() -> None:
    named = with_namespaces({"type": "pid"}, {"type": "network", "path": "/run/netns/cni-1"})
    assert translate(**named)["linux"]["namespaces"][1] == {
        "type": "network",
        "path": GUEST_NETWORK,
    }
    assert {"type": "network", "path": GUEST_NETWORK} in translate()["linux"]["namespaces"]


def test_new_namespaces_stay_new() -> None:
    assert {"type": "ipc"} in translate()["linux"]["namespaces"]


@pytest.mark.parametrize("kind", ["network", "pid"])
def test_sharing_the_hosts_network_or_processes_is_refused(kind: str) -> None:
    kept = [n for n in SPEC["linux"]["namespaces"] if n["type"] != kind]
    with pytest.raises(InvalidArgument, match=f"linux.namespaces: no {kind} namespace"):
        translate(**with_namespaces(*kept))


def test_what_would_be_the_hosts_is_the_guests_where_that_is_configured() -> None:
    spec = {**SPEC, **with_namespaces({"type": "mount"})}
    guest = translate_spec(spec, "box", replace(AROUND, shares_guest=True))
    assert guest.document["linux"]["namespaces"] == [{"type": "mount"}]


def test_a_namespace_of_a_foreign_process_is_refused() -> None:
    foreign = {"type": "ipc", "path": "/proc/1234/ns/ipc"}
    with pytest.raises(InvalidArgument, match=r"linux.namespaces\[2\].path: '/proc/1234/ns/ipc'"):
        translate(**with_namespaces({"type": "pid"}, {"type": "network"}, foreign))


def test_a_pods_container_joins_the_namespaces_of_the_pods_first() -> None:
    around = HostContext(bundle="/b", terminal=False, host_pid=77, sandbox_guest_pid=12)
    shared = {"type": "ipc", "path": "/proc/77/ns/ipc"}
    guest = translate(around, **with_namespaces({"type": "pid"}, {"type": "network"}, shared))
    assert guest["linux"]["namespaces"][2] == {"type": "ipc", "path": "/proc/12/ns/ipc"}


def test_terminal_is_what_the_task_was_created_with() -> None:
    around = HostContext(bundle="/b", terminal=True)
    assert translate(around)["process"]["terminal"] is True
    assert translate()["process"]["terminal"] is False


def test_limits_that_the_spec_does_not_set_are_inherited_as_under_runc() -> None:
    inherited = (Rlimit("RLIMIT_NOFILE", 9, 9), Rlimit("RLIMIT_CORE", 0, 7))
    process = translate_process(SPEC["process"], False, inherited)
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 7},
    ]


def test_only_the_hooks_of_the_container_namespace_are_passed_on() -> None:
    ours = {"startContainer": [{"path": "/bin/x"}], "createContainer": [{"path": "/bin/y"}]}
    names = ("prestart", "createRuntime", "poststart", "poststop")
    host = {name: [{"path": "/z"}] for name in names}
    assert translate(hooks={**ours, **host})["hooks"] == ours


def test_annotations_that_would_command_crun_are_dropped() -> None:
    annotations = {"run.oci.handler": "krun", "mine": "kept"}
    assert translate(annotations=annotations)["annotations"] == {"mine": "kept"}


def test_resources_keep_what_cgroup2_of_a_guest_can_do() -> None:
    resources = {
        "memory": {"limit": 5, "swap": 6, "reservation": 4, "kernel": 3, "swappiness": 1},
        "cpu": {"shares": 2, "quota": 3, "period": 4, "cpus": "0-3", "mems": "0"},
        "pids": {"limit": 9},
        "blockIO": {"weight": 5},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
        "devices": [{"allow": False, "access": "rwm"}],
        "unified": {"memory.high": "1"},
    }
    before = copy.deepcopy(resources)
    assert translate_resources(resources) == {
        "memory": {"limit": 5, "swap": 6, "reservation": 4},
        "cpu": {"shares": 2, "quota": 3, "period": 4},
        "pids": {"limit": 9},
        "devices": [{"allow": False, "access": "rwm"}],
        "unified": {"memory.high": "1"},
    }
    assert resources == before
