"""Limits: set while a container runs they hold in the guest and show in its statistics."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from shim.ttrpc.status import StatusError
from tests.e2e.ctr import TIMEOUT_S, Ctr
from tests.e2e.shim_client import update
from tests.e2e.topics import read_topics

MIB = 1 << 20
HOG = "dd if=/dev/zero of=/dev/null bs=200M count=1"


def read_metrics(ctr: Ctr, name: str) -> dict[str, Any]:
    done = ctr.command("task", "metrics", "--format", "json", name)
    assert done.status == 0, done
    metrics: dict[str, Any] = json.loads(done.stdout)
    return metrics


def test_an_update_holds_in_the_guest_and_shows_in_the_statistics(ctr: Ctr) -> None:
    name = ctr.start("sleep", "100000")
    update(
        name,
        {
            "memory": {"limit": 64 * MIB, "swap": 64 * MIB},
            "pids": {"limit": 20},
            "cpu": {"quota": 50_000, "period": 100_000, "shares": 512},
        },
    )
    metrics = read_metrics(ctr, name)
    assert int(metrics["memory"]["usage_limit"]) == 64 * MIB
    assert int(metrics["pids"]["limit"]) == 20
    busy = ctr.shell(name, "timeout 3 sh -c 'while :; do :; done'; echo ended $?")
    assert busy.stdout.startswith("ended 1"), busy  # 124 or 143: by the clock
    cpu = read_metrics(ctr, name)["cpu"]
    assert int(cpu["nr_throttled"]) > 0, cpu
    # Zombies stay: the container's first process is a sleep, which reaps nobody.
    crowd = ctr.shell(name, "for i in $(seq 40); do sleep 2 & done; wait")
    assert "can't fork" in crowd.stderr, crowd
    update(name, {"pids": {"limit": 200}})
    with pytest.raises(StatusError, match="memory.limit"):
        update(name, {"memory": {"limit": "much"}})
    assert ctr.exec(name, "echo", "fine").stdout == "fine\n"


def test_every_event_comes_in_its_order_and_a_memory_kill_is_one_of_them(
    ctr: Ctr, events: "subprocess.Popen[bytes]"
) -> None:
    """An exec that eats all memory is killed; the container, its agent and machine go on."""
    name = ctr.start("sleep", "100000", flags=("--memory-limit", str(32 * MIB)))
    assert ctr.exec(name, "sh", "-c", HOG, exec_id="hog").status == 137
    assert ctr.exec(name, "true", exec_id="after").status == 0
    assert ctr.command("task", "pause", name).status == 0
    assert ctr.command("task", "resume", name).status == 0
    assert ctr.kill(name).status == 0
    ctr.wait_status(name, "STOPPED")
    assert ctr.command("task", "delete", name).status == 0
    topics = read_topics(events, name)
    assert "oom" in topics
    assert [topic for topic in topics if topic != "oom"] == [
        "create",
        "start",
        *("exec-added", "exec-started", "exit") * 2,
        "paused",
        "resumed",
        "exit",
        "delete",
    ]


def read_private_bytes(pid: int) -> int:
    """What the process has for itself alone (proc_pid_smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty:"))


def test_memory_that_a_container_frees_goes_back_to_the_host(ctr: Ctr) -> None:
    big = 512 * MIB
    mount = "type=tmpfs,src=tmpfs,dst=/big,options=rw:size=600m"
    name = ctr.start("sleep", "100000", flags=("--mount", mount))
    vmm = ctr.task_pid(name)
    before = read_private_bytes(vmm)
    filled = ctr.shell(name, f"head -c {big} /dev/zero > /big/file; wc -c < /big/file")
    assert filled.stdout == f"{big}\n", filled
    assert read_private_bytes(vmm) > before + big // 2  # some of it was touched before
    assert ctr.shell(name, "rm /big/file").status == 0
    deadline = time.monotonic() + TIMEOUT_S
    while read_private_bytes(vmm) > before + big // 10:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert ctr.shell(name, "echo fine").stdout == "fine\n"
