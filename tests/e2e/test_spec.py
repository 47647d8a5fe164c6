"""The OCI spec holds in the guest: the same spec under runc gives the same values."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import cri_spec
from tests.e2e.ctr import DEBIAN, Ctr, keep_known

PROBE = Path(__file__).with_name("probe_process.py").read_text()

# Differences that are intended, each with its reason.
ROOT_TYPE = "mounts./"  # virtio-fs in the guest, overlay on the host
CGROUP = "cgroup"  # named by the guest; both hide the host's path where asked to
MEANT = {
    # A masked file has /dev/null mounted over it: crun takes the guest's, runc the container's.
    **dict.fromkeys(
        (f"mounts./proc/{name}" for name in ("kcore", "keys", "latency_stats", "timer_list")),
        (["devtmpfs", "ro"], ["tmpfs", "nosuid"]),
    ),
    # Where the spec says nothing runc's container has what containerd gave its shim.
    "oom_score_adj": ("0", "1"),
}


def probe(client: Ctr, flags: tuple[str, ...]) -> dict[str, Any]:
    done = client.run(
        "python3", "-c", PROBE, "one", "two", image=DEBIAN, flags=flags, name="parity"
    )
    assert done.status == 0, done
    return json.loads(done.stdout)


def flatten(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        pairs = {}
        for key, inner in value.items():
            pairs.update(flatten(inner, f"{path}.{key}" if path else key))
        return pairs
    return {path: value}


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, tuple[object, object]]:
    left, right = flatten(ours), flatten(theirs)
    found = {
        key: (left.get(key), right.get(key))
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    }
    found.pop(ROOT_TYPE, None)
    found.pop(CGROUP, None)
    return {key: pair for key, pair in found.items() if MEANT.get(key) != pair}


# Several options at a time: each set costs two containers, and a difference names its field.
FLAGS = {
    "plain": (),
    "user, names and places": (
        *(("--user", "1000:50"), ("--cwd", "/var/tmp"), ("--env", "A=b=c")),
        *(("--hostname", "someone"), ("--read-only",)),
    ),
    "privileges": (
        *(("--cap-drop", "CAP_CHOWN"), ("--cap-add", "CAP_SYS_ADMIN")),
        *(("--seccomp",), ("--allow-new-privs",)),
    ),
}


@pytest.mark.parametrize("options", FLAGS.values(), ids=FLAGS.keys())
def test_a_process_sees_what_it_sees_under_runc(
    ctr: Ctr, runc: Ctr, options: tuple[tuple[str, ...], ...]
) -> None:
    flags = keep_known(*options)
    assert differences(probe(ctr, flags), probe(runc, flags)) == {}


def test_a_spec_as_cri_makes_it_holds(
    ctr: Ctr, runc: Ctr, debian_root: Path, tmp_path: Path
) -> None:
    """Masked and read-only paths, default seccomp, capabilities, ids, rlimits and mounts of CRI."""
    results = []
    for client in (ctr, runc):
        path = cri_spec.write(tmp_path / f"{client.runtime}.json", debian_root, PROBE)
        name = client.new_id()
        done = client.command(
            "run", "--rm", "--runtime", client.runtime, "--config", str(path), name
        )
        assert done.status == 0, done
        results.append(json.loads(done.stdout))
    assert differences(*results) == {}


def test_memory_limit_holds_in_the_guest(ctr: Ctr) -> None:
    """The container is killed at its limit, with 137, and not the machine."""
    script = (
        "x = bytearray(200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint('too much')"
    )
    done = ctr.run("python3", "-c", script, image=DEBIAN, flags=("--memory-limit", str(64 << 20)))
    assert done.status == 137, done
    assert "too much" not in done.stdout


def test_host_network_is_refused_with_the_reason(ctr: Ctr) -> None:
    done = ctr.run("true", flags=("--net-host",))
    assert done.status != 0
    assert "network" in done.stderr.lower(), done
