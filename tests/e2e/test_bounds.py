"""A sandbox's processes live in the cgroup that its spec names, and are bounded there."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.containerd import Containerd
from tests.e2e.ctr import DEBIAN, TIMEOUT_S, Ctr
from tests.e2e.host import find_warm_servers
from tests.e2e.shim_client import update
from tests.e2e.topics import read_topics

CGROUPS = Path("/sys/fs/cgroup")
MIB = 1 << 20


def read_cgroup(pid: int) -> Path:
    text = Path(f"/proc/{pid}/cgroup").read_text()
    (path,) = (line.removeprefix("0::/") for line in text.splitlines() if line.startswith("0::/"))
    return CGROUPS / path


def list_processes(cgroup: Path) -> list[str]:
    pids = (cgroup / "cgroup.procs").read_text().split()
    return sorted(Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids)


def test_shim_vmm_and_their_threads_are_in_the_cgroup_of_the_spec(ctr: Ctr) -> None:
    name = ctr.start("sleep", "1000")
    cgroup = CGROUPS / "default" / name
    assert read_cgroup(ctr.task_pid(name)) == cgroup
    assert list_processes(cgroup) == ["sampan-shim", "sampan-vmm"]
    threads = len(os.listdir(f"/proc/{ctr.task_pid(name)}/task"))
    assert len((cgroup / "cgroup.threads").read_text().split()) >= threads
    assert int((cgroup / "memory.max").read_text()) == (1024 + 256) * MIB
    (server,) = find_warm_servers()
    assert read_cgroup(server) != cgroup
    ctr.remove(name)
    assert not cgroup.exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pods/a/b", "pods/a/b"),
        ("kubepods-pod1.slice:cri:x", "kubepods.slice/kubepods-pod1.slice/cri-x.scope"),
    ],
)
def test_paths_and_systemds_names_are_made_and_removed(ctr: Ctr, path: str, expected: str) -> None:
    name = ctr.start("sleep", "1000", flags=("--cgroup", path))
    assert read_cgroup(ctr.task_pid(name)) == CGROUPS / expected
    ctr.remove(name)
    assert not (CGROUPS / expected).exists()


def test_processors_are_the_containers(ctr: Ctr) -> None:
    name = ctr.start("sleep", "1000", flags=("--cpu-quota", "50000", "--cpu-period", "100000"))
    cgroup = read_cgroup(ctr.task_pid(name))
    assert (cgroup / "cpu.max").read_text().split() == ["50000", "100000"]
    ctr.remove(name)


def test_an_update_of_the_container_changes_its_cgroup_on_the_host(ctr: Ctr) -> None:
    name = ctr.start("sleep", "1000")
    cgroup = read_cgroup(ctr.task_pid(name))
    update(name, {"cpu": {"quota": 30_000, "period": 100_000}})
    assert (cgroup / "cpu.max").read_text().split() == ["30000", "100000"]
    update(name, {"cpu": {"quota": -1}})
    assert (cgroup / "cpu.max").read_text().split() == ["max", "100000"]
    ctr.remove(name)


def test_a_cgroup_that_leads_elsewhere_is_named(ctr: Ctr) -> None:
    done = ctr.run("true", flags=("--cgroup", "/../../outside"))
    assert done.status != 0
    assert "linux.cgroupsPath" in done.stderr, done


EAT = (
    "import mmap\nprint('up', flush=True)\nkeep = []\n"
    "while True:\n    m = mmap.mmap(-1, 16 << 20)\n    m.write(b'x' * (16 << 20))\n"
    "    keep.append(m)"
)


def test_a_vmm_that_the_host_kills_at_its_limit_is_told_so(
    ctr: Ctr, events: "subprocess.Popen[bytes]"
) -> None:
    """Here the limit is set below the machine's memory by hand: none of ours would be."""
    start = os.stat(Containerd().log).st_size
    name, process = ctr.popen("python3", "-c", EAT, image=DEBIAN)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    cgroup = CGROUPS / "default" / name
    (cgroup / "memory.max").write_text(str(192 * MIB))
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 137
    said = Containerd().read_log(start)
    assert "the host's kernel killed the vmm for lack of memory" in said
    assert f"/default/{name} may have {192 * MIB} bytes (memory.max)" in said
    topics = read_topics(events, name)
    assert topics.index("oom") < topics.index("exit"), topics
    ctr.remove(name)
    assert not cgroup.exists()
    assert ctr.run("echo", "fine").stdout == "fine\n"
