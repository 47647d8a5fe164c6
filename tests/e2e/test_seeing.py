"""What `sampan` shows of a host is what runs there."""

import json
import subprocess
from typing import Any

from tests.e2e.ctr import Ctr
from tests.e2e.host import find_pid


def ask(*words: str) -> Any:
    done = subprocess.run(["sampan", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_container_is_listed_while_it_runs_and_its_guest_says_what_it_says(ctr: Ctr) -> None:
    name = ctr.start("sleep", "1000", flags=("--privileged",))
    (found,) = (sandbox for sandbox in ask("ps", "--json") if sandbox["id"] == name)
    assert (found["namespace"], found["state"]) == ("default", "running")
    assert found["started_from"] == "template"
    assert found["vmm"]["pid"] == ctr.task_pid(name) == find_pid("sampan-vmm")
    assert found["shim"]["pid"] == find_pid("sampan-shim")
    said = "echo 8 >/proc/sys/kernel/printk; echo heard >/dev/kmsg"
    assert ctr.shell(name, said).status == 0
    console = subprocess.run(["sampan", "console", name], capture_output=True, check=True)
    assert b"heard" in console.stdout
    ctr.remove(name)
    assert name not in [sandbox["id"] for sandbox in ask("ps", "--json")]


def test_a_host_that_runs_containers_has_what_they_need() -> None:
    assert {need["need"]: need["state"] for need in ask("check", "--json")} == {
        "kvm": "ok",
        "image": "ok",
        "cgroup": "ok",
        "vhost-net": "ok",
    }
