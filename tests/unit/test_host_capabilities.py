"""A shim drops what it does not need of root's capabilities; its programs have them again."""

import os
import subprocess
import sys

import pytest

from shim.host.capabilities import KEPT

PROGRAM = """
import subprocess
from shim.host.capabilities import keep_few_capabilities
keep_few_capabilities()
with open("/proc/thread-self/status") as status:
    lines = [line for line in status if line.startswith(("CapEff", "CapPrm"))]
print(*lines, sep="", end="", flush=True)
subprocess.run(["grep", "CapEff", "/proc/self/status"], check=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities")
def test_only_those_of_the_table_are_left_but_not_for_programs_that_it_starts() -> None:
    with open("/proc/self/status") as status:
        (own,) = (int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    expected = sum(1 << number for number in KEPT.values()) & own
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    permitted, effective, of_child = (int(line.split()[1], 16) for line in done.stdout.splitlines())
    assert permitted == effective == expected != own
    assert of_child == own
