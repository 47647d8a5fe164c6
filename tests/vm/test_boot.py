"""A stock kernel in a machine of ours: from the first instruction to its end."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import POWER_OFF
from tests.vm.machine import VmmProcess


def read_console(config) -> str:
    return Path(config.console_path).read_text(errors="replace")


def run_to_end(config) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Boots, waits for the machine's end; its stopped event, counters and console."""
    with VmmProcess() as vmm:
        vmm.boot(config)
        stopped = vmm.wait_event("stopped")
        counters = vmm.request("counters")
        print(counters)
        return stopped, counters, read_console(config)


def test_a_guest_runs_init_from_virtiofs_and_powers_off(make_config, make_root) -> None:
    config = make_config(make_root("echo init-$$ of $($b uname -r)\n" + POWER_OFF))
    stopped, _, console = run_to_end(config)
    assert stopped["reason"] == "poweroff", console
    assert "init-1 of 6." in console


@pytest.mark.parametrize("vcpus", [2])
def test_every_vcpu_comes_up(make_config, make_root, vcpus: int) -> None:
    script = "echo cpus=$($b nproc)\n" + POWER_OFF
    _, _, console = run_to_end(make_config(make_root(script), vcpus=vcpus))
    assert f"cpus={vcpus}\n" in console


def test_the_guest_has_the_memory_it_was_given(make_config, make_root) -> None:
    script = "$b grep MemTotal /proc/meminfo\n" + POWER_OFF
    _, _, console = run_to_end(make_config(make_root(script), memory_bytes=4 << 30))
    (line,) = [line for line in console.splitlines() if "MemTotal" in line]
    assert 3.8 * 2**20 < int(line.split()[1]) < 4 * 2**20


def test_a_panic_is_a_reset(make_config, make_root) -> None:
    """Init that exits is a kernel panic; panic=-1 reboots at once."""
    stopped, _, console = run_to_end(make_config(make_root("exit 3\n")))
    assert stopped["reason"] == "reset"
    assert "Attempted to kill init" in console


def test_no_root_is_a_reset_with_the_reason_on_the_console(make_config) -> None:
    stopped, _, console = run_to_end(make_config())
    assert stopped["reason"] == "reset"
    assert "VFS: Unable to mount root fs" in console


def test_the_console_is_private_and_bounded(make_config, make_root) -> None:
    script = "i=0; while [ $i -lt 200 ]; do echo $i-xxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done\n"
    config = make_config(make_root(script + POWER_OFF), console_limit_bytes=2000)
    stopped, _, console = run_to_end(config)
    assert stopped["reason"] == "poweroff"
    assert len(console) <= 2000
    assert stat.S_IMODE(os.stat(config.console_path).st_mode) == 0o600


def test_the_data_path_has_no_exit_to_user_space(make_config, make_root) -> None:
    """Reading files costs no exit: notifications are ioeventfds, interrupts irqfds."""
    root = make_root("$b cat /file* >/dev/null\n" + POWER_OFF)
    (root / "file").write_bytes(b"x")
    _, before, _ = run_to_end(make_config(root))
    for name in range(50):
        (root / f"file{name}").write_bytes(bytes(65536))
    _, after, _ = run_to_end(make_config(root))
    assert sum(after["exits"].values()) - sum(before["exits"].values()) < 50
