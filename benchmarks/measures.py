"""What one round measures of one runtime.

Each measure yields what it finds as it goes: samples by metric (METRICS says
what a metric is) and details that have no median.  Times that include ctr
itself include it for both runtimes.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.ctr import (
    Runtime,
    find_process,
    run_ctr,
    running,
    time_exec,
    time_output,
    time_run,
    wait_for,
)
from benchmarks.file_events import FileWatch
from benchmarks.memory import list_pids, read_pss, read_settled_pss
from benchmarks.phases import SHIM_MARK, TITLES, find_first, measure_marks, split_phases
from benchmarks.processes import ProcessWatch
from benchmarks.usage import measure_wakeups
from shim.machine.directory import list_sandboxes


@dataclass(frozen=True, slots=True)
class Metric:
    title: str
    unit: str
    more_is_better: bool = False


METRICS: Final[dict[str, Metric]] = {
    "shim_first_byte_s": Metric("shim start to first output byte", "s"),
    "run_first_byte_s": Metric("`ctr run` to first output byte", "s"),
    "create_to_delete_s": Metric("create to delete (`ctr run --rm`)", "s"),
    "many_s": Metric("8 at once (`ctr run --rm`), to the end of the last", "s"),
    "run_execs": Metric("programs started for it", "programs"),
    "run_opens": Metric("files opened on the host for it", "files"),
    "run_read_kib": Metric("read from them", "KiB"),
    "exec_first_byte_s": Metric("`ctr task exec` to first output byte", "s"),
    "ctr_alone_s": Metric("of these, ctr alone", "s"),
    "idle_pss_mib": Metric("PSS of an idle container", "MiB"),
    "idle_wakeups_s": Metric("how often its processes wake", "1/s"),
    "ready_pss_mib": Metric("PSS of a machine that waits, ready to run", "MiB"),
    "stdout_mib_s": Metric("stdout", "MiB/s", more_is_better=True),
    **{f"phase_{mark}_s": Metric(title, "s") for mark, title in TITLES.items()},
}


@dataclass(frozen=True, slots=True)
class Settings:
    image: str
    stdout_mib: int
    execs: int
    idle: int
    """How many containers idle at a time for the memory figure."""


@dataclass(frozen=True, slots=True)
class Found:
    samples: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


AT_ONCE: Final = 8
IDLE_WATCHED_S: Final = 15
Measure = Callable[[Runtime, Settings], Iterator[Found]]


def measure_run(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    with ProcessWatch() as watch, FileWatch() as files:
        output = time_run(runtime, settings.image, "echo", "x")
        execs, counts = watch.since(output.start_ns), files.read()
    samples = {
        "run_first_byte_s": seconds(output.start_ns, output.first_byte_ns),
        "create_to_delete_s": seconds(output.start_ns, output.end_ns),
        "run_execs": float(len(execs) - 1),  # ctr's own
    }
    if counts is not None:
        samples |= {
            "run_opens": float(counts.opened),
            "run_read_kib": counts.read_bytes / 1024,
        }
    if (shim := find_first(execs, SHIM_MARK)) is not None:
        samples["shim_first_byte_s"] = seconds(shim.time_ns, output.first_byte_ns)
    yield Found(samples)


def measure_phases(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    if not runtime.waits_for:  # else what the phases begin with was there before
        yield Found(split_phases(measure_marks(runtime, settings.image)))


def measure_many(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    """No more of them are ready than at other times."""
    wait_for(runtime)
    at_once = replace(runtime, waits_for="")
    began_ns = time.monotonic_ns()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(time_run, at_once, settings.image, "echo", "x") for _ in range(AT_ONCE)]
        end_ns = max(run.result().end_ns for run in runs)
    yield Found({"many_s": seconds(began_ns, end_ns)})


def measure_ctr(_runtime: Runtime, _settings: Settings) -> Iterator[Found]:
    output = time_output("version")
    yield Found({"ctr_alone_s": seconds(output.start_ns, output.end_ns)})


def measure_exec(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    with running(runtime, settings.image, "sleep", "1000000") as name:
        for _ in range(settings.execs):
            output = time_exec(name, "echo", "x")
            yield Found({"exec_first_byte_s": seconds(output.start_ns, output.first_byte_ns)})


def measure_idle(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    """With what is known of the last one: memory by process, exits of its boot."""
    if runtime.waits_for:
        yield Found({"ready_pss_mib": mib(read_ready_pss(runtime))})
        return
    before = list_pids()
    with ExitStack() as stack:
        for _ in range(settings.idle):
            name = stack.enter_context(running(runtime, settings.image, "sleep", "1000000"))
        pss_mib, wakeups_s = read_idle(before, settings.idle)
        details: dict[str, Any] = {"pss_mib": pss_mib, **read_boot_counters(name)}
    yield Found(
        {"idle_pss_mib": sum(pss_mib.values()), "idle_wakeups_s": wakeups_s},
        details,
    )


def read_idle(before: frozenset[int], containers: int = 1) -> tuple[dict[str, float], float]:
    """What each of those that came since `before` holds, MiB by processes' names, and how
    often a second it wakes, once they are idle."""
    pss = read_settled_pss(before)
    wakeups_s = measure_wakeups(list_pids() - before, IDLE_WATCHED_S)
    each = {comm: mib(size) / containers for comm, size in sorted(pss.items())}
    return each, wakeups_s / containers


def read_ready_pss(runtime: Runtime) -> int:
    """Bytes: of the process that waits and of its children, the vmm."""
    wait_for(runtime)
    pid = find_process(runtime.waits_for)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(read_pss(frozenset((pid, *map(int, children)))).values())


def measure_stdout(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    """From the first byte to the last, read as fast as they come."""
    command = ("dd", "if=/dev/zero", "bs=64k", f"count={settings.stdout_mib * 16}")
    output = time_run(runtime, settings.image, *command)
    if output.bytes_read != settings.stdout_mib << 20:
        raise ValueError(
            f"{runtime.name}: {output.bytes_read} bytes of {settings.stdout_mib << 20} came through"
        )
    taken = seconds(output.first_byte_ns, output.last_byte_ns)
    yield Found({"stdout_mib_s": settings.stdout_mib / taken if taken else 0.0})


def warm_up(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    """The first container after boot pays for cold caches: no sample."""
    time_run(replace(runtime, waits_for=""), settings.image, "echo", "x")
    yield Found({})


MEASURES: Final[dict[str, Measure]] = {
    "ctr": measure_ctr,
    "run": measure_run,
    "phases": measure_phases,
    "many": measure_many,
    "exec": measure_exec,
    "stdout": measure_stdout,
    "idle": measure_idle,
}


def has_image(image: str) -> bool:
    return image in run_ctr("image", "ls", "-q").split()


def read_boot_counters(container_id: str) -> dict[str, Any]:
    """What sampan's vmm counted from its first instruction to the agent's answer."""
    for key, sandbox in list_sandboxes():
        if key.sandbox_id == container_id and Path(sandbox.counters).exists():
            return {"boot": json.loads(Path(sandbox.counters).read_text())}
    return {}


def seconds(start_ns: int, end_ns: int) -> float:
    return (end_ns - start_ns) / 1e9


def mib(size: int) -> float:
    return size / (1 << 20)


def now_text() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
