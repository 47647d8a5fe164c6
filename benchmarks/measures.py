"""What one round measures of one runtime.

Each measure yields its results one by one: samples by metric (METRICS says what a
metric is) and details that have no median.  Times that include ctr
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
from benchmarks.memory import (
    WARM,
    find_named,
    list_counted,
    list_pids,
    read_pss,
    read_settled_pss,
)
from benchmarks.phases import SHIM_MARK, TITLES, find_first, measure_marks, split_phases
from benchmarks.processes import ProcessWatch
from benchmarks.runtimes import SAMPAN
from benchmarks.usage import measure_wakeups
from shim.machine.directory import list_sandboxes


@dataclass(frozen=True, slots=True)
class Metric:
    title: str
    unit: str
    more_is_better: bool = False
    is_count: bool = False
    """The value is the same on a fast and on a slow machine."""


METRICS: Final[dict[str, Metric]] = {
    "shim_first_byte_s": Metric("shim start to first output byte", "s"),
    "run_first_byte_s": Metric("`ctr run` to first output byte", "s"),
    "create_to_delete_s": Metric("create to delete (`ctr run --rm`)", "s"),
    "many_s": Metric("8 at once (`ctr run --rm`), to the end of the last", "s"),
    "run_execs": Metric("programs started for it", "programs", is_count=True),
    "run_opens": Metric("files opened on the host for it", "files", is_count=True),
    "run_read_kib": Metric("read from them", "KiB", is_count=True),
    "exec_first_byte_s": Metric("`ctr task exec` to first output byte", "s"),
    "ctr_alone_s": Metric("of these, ctr alone", "s"),
    "idle_pss_mib": Metric(
        "PSS of an idle container, with its share of the warm server", "MiB", is_count=True
    ),
    "warm_pss_mib": Metric("PSS of the warm server, once for all containers", "MiB", is_count=True),
    "idle_wakeups_s": Metric("wake-ups of an idle container's processes", "1/s", is_count=True),
    "ready_pss_mib": Metric(
        "PSS of a prewarmed machine, without the warm server", "MiB", is_count=True
    ),
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
    if not runtime.waits_for:  # a prewarmed machine existed before the first phase
        yield Found(split_phases(measure_marks(runtime, settings.image)))


def measure_many(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    """With the usual number of prewarmed machines."""
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
    """With details of the last container: memory by process, exits of its boot."""
    if runtime.waits_for:
        yield Found({"ready_pss_mib": mib(read_ready_pss(runtime))})
        return
    before = list_pids()
    with ExitStack() as stack:
        for _ in range(settings.idle):
            name = stack.enter_context(running(runtime, settings.image, "sleep", "1000000"))
        pss_mib, wakeups_s = read_idle(before, settings.idle, find_shared(runtime))
        details: dict[str, Any] = {"pss_mib": pss_mib, **read_boot_counters(name)}
    samples = {"idle_pss_mib": sum(pss_mib.values()), "idle_wakeups_s": wakeups_s}
    if WARM in pss_mib:
        samples["warm_pss_mib"] = pss_mib[WARM] * settings.idle
    yield Found(samples, details)


def find_shared(runtime: Runtime) -> frozenset[int]:
    """Processes that all containers of the runtime share, and that may be there before them."""
    return find_named(WARM) if runtime.type == SAMPAN else frozenset()


def read_idle(
    before: frozenset[int], containers: int = 1, shared: frozenset[int] = frozenset()
) -> tuple[dict[str, float], float]:
    """What each of the containers started since `before` costs once they are idle: MiB by
    processes' names, and wake-ups a second.  The cost of `shared` is divided among them."""
    pss = read_settled_pss(before, shared)
    wakeups_s = measure_wakeups(list_counted(before, shared), IDLE_WATCHED_S)
    return share_out(pss, containers), wakeups_s / containers


def share_out(pss: dict[str, int], containers: int) -> dict[str, float]:
    return {comm: mib(size) / containers for comm, size in sorted(pss.items())}


def read_ready_pss(runtime: Runtime) -> int:
    """Bytes: of the prewarmed process and of its child, the vmm."""
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
    """The first container after boot has cold caches, so it is not a sample."""
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
    """Counters of sampan's vmm from its first instruction to the agent's answer."""
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
