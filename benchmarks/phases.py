"""Where the time of a container's start goes, seen from outside.

Marks on the monotonic clock, in the order in which they come:

    ctr          the client starts
    shim         containerd executes the shim (process connector)
    vmm          the vmm, executed or forked, has given itself its name (likewise)
    guest        the guest's clock starts: its /proc/uptime, read by the container
    agent        the agent has answered: the shim writes the sandbox's counters then
    resumed      the same of a clone, whose clock started with its template's machine
                 than the machine, so there is no mark `guest`
    created      the container's first process exists: its start by the guest's clock
    first byte   its output reaches ctr's reader

Only a runtime with a sandbox directory has them all; the guest's clock has a
resolution of 10 ms.
"""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.ctr import TIMEOUT_S, CtrError, Runtime, new_name
from benchmarks.processes import Exec, ProcessWatch
from shim.machine.directory import list_sandboxes

SHIM_MARK: Final = "containerd-shim-"
VMM_NAME: Final = "sampan-vmm"
SCRIPT: Final = "cat /proc/uptime /proc/self/stat; read line"
"""The shell is the container's first process, and ends with its input."""
START_FIELD: Final = 22
"""proc_pid_stat(5): starttime."""
TITLES: Final = {
    "shim": "ctr and containerd, to the shim's start",
    "vmm": "the shim, to the vmm's start",
    "guest": "the vmm's set-up, to the guest's first instruction",
    "agent": "guest kernel and agent, to the agent's answer",
    "resumed": "the vmm and its clone, to the agent's answer",
    "created": "create, to the container's first process",
    "first_byte": "start, to the first byte of output",
}
STEPS: Final = (
    ("ctr", "shim"),
    ("shim", "vmm"),
    ("vmm", "guest"),
    ("guest", "agent"),
    ("vmm", "resumed"),
    ("agent", "created"),
    ("resumed", "created"),
    ("created", "first_byte"),
)


@dataclass(frozen=True, slots=True)
class GuestClock:
    uptime_s: float
    """When the container read it."""
    process_start_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The agent's answer."""

    time_ns: int
    is_clone: bool


def parse_guest_clock(text: str) -> GuestClock:
    """ValueError when it is not what SCRIPT prints."""
    uptime, _, rest = text.partition("\n")
    _, closed, fields = rest.rpartition(") ")
    words = fields.split()
    if not closed or len(words) < START_FIELD - 2:
        raise ValueError(f"not /proc/uptime and /proc/self/stat: {text!r}")
    ticks = int(words[START_FIELD - 3])  # the first two are before the ")"
    return GuestClock(float(uptime.split()[0]), ticks / os.sysconf("SC_CLK_TCK"))


def measure_marks(runtime: Runtime, image: str) -> dict[str, int]:
    """Nanoseconds of the monotonic clock by mark; marks that do not exist are left out."""
    name = new_name(runtime)
    command = ["ctr", *runtime.run("--rm"), image, name, "sh", "-c", SCRIPT]
    with ProcessWatch() as watch:
        marks = {"ctr": time.monotonic_ns()}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            text = os.read(process.stdout.fileno(), 65536).decode(errors="replace")
            marks["first_byte"] = time.monotonic_ns()
            answer = read_answer(name)
            execs = watch.since(marks["ctr"])
            vmm = watch.find_name(VMM_NAME, marks["ctr"])
            said, errors = process.communicate(b"\n", timeout=TIMEOUT_S)
    if process.returncode != 0 or not text:
        raise CtrError(f"{' '.join(command)}: status {process.returncode}: {errors[-500:]!r}")
    clock = parse_guest_clock(text + said.decode(errors="replace"))
    if (shim := find_first(execs, SHIM_MARK)) is not None:
        marks["shim"] = shim.time_ns
    if vmm is not None:
        marks["vmm"] = vmm.time_ns
    if answer is not None:
        began = marks["first_byte"] - round(clock.uptime_s * 1e9)
        marks["created"] = began + round(clock.process_start_s * 1e9)
        if answer.is_clone:
            marks["resumed"] = answer.time_ns
        else:
            marks |= {"guest": began, "agent": answer.time_ns}
    return marks


def split_phases(marks: dict[str, int]) -> dict[str, float]:
    """Seconds of each step whose two marks are there."""
    return {
        f"phase_{mark}_s": (marks[mark] - marks[before]) / 1e9
        for before, mark in STEPS
        if before in marks and mark in marks
    }


def read_answer(container_id: str) -> Answer | None:
    for key, sandbox in list_sandboxes():
        if key.sandbox_id == container_id and os.path.exists(sandbox.counters):
            age_ns = time.time_ns() - os.stat(sandbox.counters).st_mtime_ns
            with open(sandbox.counters) as file:
                return Answer(time.monotonic_ns() - age_ns, json.load(file)["cloned"])
    return None


def find_first(execs: list[Exec], mark: str) -> Exec | None:
    """The first program of that name.  Arguments of ctr that contain it do not count."""
    found = (one for one in execs if mark in one.command and not one.command.startswith("ctr "))
    return min(found, key=lambda one: one.time_ns, default=None)
