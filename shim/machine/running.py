"""The sandboxes of this host and what they use of it, from their directories and /proc.

Asks no shim and no guest: so one that hangs is shown like the others.  What a vmm has
written, its counters, is data.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from shim.host.pids import ProcessIdentity, is_alive, load_identity, read_stat
from shim.machine.directory import SandboxDirectory, list_sandboxes

TICKS: Final = os.sysconf("SC_CLK_TCK")
USER_TICKS: Final = 11
SYSTEM_TICKS: Final = 12
"""Of what read_stat returns, from 0 on."""
COUNTERS_BYTES: Final = 1 << 20


class ProcessUse(NamedTuple):
    """What one process uses of the host."""

    pid: int
    pss_bytes: int
    """Its proportional set size; a vmm's has the guest's memory in it."""
    cpu_s: float


class Running(NamedTuple):
    """One sandbox."""

    namespace: str
    """containerd's; "oci" of the OCI command line, "ready" of a prewarmed machine."""
    id: str
    state: str
    """"running", or which of its processes is not there."""
    started_from: str
    """"template" or "boot"; empty until it is known."""
    age_s: float
    shim: ProcessUse | None
    vmm: ProcessUse | None
    directory: str


def list_running() -> Iterator[Running]:
    for key, sandbox in list_sandboxes():
        shim, vmm = (load_identity(path) for path in (sandbox.shim_pid, sandbox.vmm_pid))
        yield Running(
            namespace=key.namespace,
            id=key.sandbox_id,
            state=describe_state(shim, vmm),
            started_from=read_origin(sandbox),
            age_s=read_age(shim or vmm),
            shim=read_use(shim),
            vmm=read_use(vmm),
            directory=sandbox.path,
        )


def describe_state(shim: ProcessIdentity | None, vmm: ProcessIdentity | None) -> str:
    named = (("shim", shim), ("vmm", vmm))
    missing = [name for name, process in named if process is None or not is_alive(process)]
    return f"no {' and no '.join(missing)}" if missing else "running"


def read_origin(sandbox: SandboxDirectory) -> str:
    try:
        with open(sandbox.counters, encoding="utf-8", errors="replace") as file:
            counters: Any = json.loads(file.read(COUNTERS_BYTES))
    except (OSError, ValueError):
        return ""
    if not isinstance(counters, dict):
        return ""
    return "template" if counters.get("cloned") is True else "boot"


def read_age(process: ProcessIdentity | None) -> float:
    """Seconds since the process was started; 0 without one."""
    if process is None:
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_time / TICKS)


def parse_pss_bytes(rollup: str) -> int:
    """PSS from a /proc/<pid>/smaps_rollup."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def read_use(process: ProcessIdentity | None) -> ProcessUse | None:
    """None when it has ended."""
    if process is None:
        return None
    try:
        fields = read_stat(process.pid)
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="utf-8") as rollup:
            pss_bytes = parse_pss_bytes(rollup.read())
    except (OSError, ValueError):
        return None
    if not is_alive(process):  # what was read may be of another one with its pid
        return None
    ticks = int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])
    return ProcessUse(process.pid, pss_bytes, ticks / TICKS)
