"""A container's figures in the form that the host's containerd expects.

Pure: from the guest's cgroup v2 files, by name and key, to the metrics
message of the host's own cgroup version, which containerd's collector and
CRI expect.  Types and units: containerd/cgroups cgroup1, cgroup2.
"""

from typing import Final

from proto.gen.containerd import cgroups_v1_pb2, cgroups_v2_pb2

Files = dict[str, dict[str, int]]

NO_LIMIT: Final = (1 << 64) - 1
CGROUP1_NO_LIMIT: Final = (1 << 63) - 4096
MEMORY_KEYS: Final = (
    "anon",
    "file",
    "kernel_stack",
    "slab",
    "sock",
    "shmem",
    "file_mapped",
    "file_dirty",
    "file_writeback",
    "inactive_anon",
    "active_anon",
    "inactive_file",
    "active_file",
    "unevictable",
    "slab_reclaimable",
    "slab_unreclaimable",
    "pgfault",
    "pgmajfault",
)
CPU_KEYS: Final = (
    "usage_usec",
    "user_usec",
    "system_usec",
    "nr_periods",
    "nr_throttled",
    "throttled_usec",
)
EVENT_KEYS: Final = ("low", "high", "max", "oom", "oom_kill")


def read_single(files: Files, name: str, default: int = 0) -> int:
    return files.get(name, {}).get("", default)


def build_metrics_v2(files: Files) -> cgroups_v2_pb2.Metrics:
    memory, cpu = files.get("memory.stat", {}), files.get("cpu.stat", {})
    events = files.get("memory.events", {})
    return cgroups_v2_pb2.Metrics(
        pids=cgroups_v2_pb2.PidsStat(
            current=read_single(files, "pids.current"), limit=read_limit(files, "pids.max")
        ),
        cpu=cgroups_v2_pb2.CPUStat(**{key: cpu.get(key, 0) for key in CPU_KEYS}),
        memory=cgroups_v2_pb2.MemoryStat(
            **{key: memory.get(key, 0) for key in MEMORY_KEYS},
            anon_thp=memory.get("anon_thp", 0),
            usage=read_single(files, "memory.current"),
            usage_limit=read_single(files, "memory.max", NO_LIMIT),
            swap_usage=read_single(files, "memory.swap.current"),
            swap_limit=read_single(files, "memory.swap.max", NO_LIMIT),
            max_usage=read_single(files, "memory.peak"),
        ),
        memory_events=cgroups_v2_pb2.MemoryEvents(
            **{key: events.get(key, 0) for key in EVENT_KEYS}
        ),
    )


def build_metrics_v1(files: Files) -> cgroups_v1_pb2.Metrics:
    return cgroups_v1_pb2.Metrics(
        pids=cgroups_v1_pb2.PidsStat(
            current=read_single(files, "pids.current"), limit=read_limit(files, "pids.max")
        ),
        cpu=build_cpu_v1(files.get("cpu.stat", {})),
        memory=build_memory_v1(files),
    )


def build_cpu_v1(cpu: dict[str, int]) -> cgroups_v1_pb2.CPUStat:
    return cgroups_v1_pb2.CPUStat(
        usage=cgroups_v1_pb2.CPUUsage(
            total=to_ns(cpu.get("usage_usec", 0)),
            kernel=to_ns(cpu.get("system_usec", 0)),
            user=to_ns(cpu.get("user_usec", 0)),
        ),
        throttling=cgroups_v1_pb2.Throttle(
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=to_ns(cpu.get("throttled_usec", 0)),
        ),
    )


def build_memory_v1(files: Files) -> cgroups_v1_pb2.MemoryStat:
    stat, events = files.get("memory.stat", {}), files.get("memory.events", {})
    cache, anonymous = stat.get("file", 0), stat.get("anon", 0)
    return cgroups_v1_pb2.MemoryStat(
        cache=cache,
        rss=anonymous,
        total_cache=cache,
        total_rss=anonymous,
        total_pg_fault=stat.get("pgfault", 0),
        total_pg_maj_fault=stat.get("pgmajfault", 0),
        total_inactive_file=stat.get("inactive_file", 0),
        usage=cgroups_v1_pb2.MemoryEntry(
            limit=cgroup1_limit(read_single(files, "memory.max", NO_LIMIT)),
            usage=read_single(files, "memory.current"),
            max=read_single(files, "memory.peak"),
            failcnt=events.get("max", 0),
        ),
        swap=cgroups_v1_pb2.MemoryEntry(
            limit=cgroup1_limit(read_single(files, "memory.swap.max", NO_LIMIT)),
            usage=read_single(files, "memory.swap.current"),
        ),
    )


def to_ns(usec: int) -> int:
    """Bounded: a guest may report any number; containerd's message has 64 bits."""
    return min(usec * 1000, (1 << 64) - 1)


def cgroup1_limit(limit: int) -> int:
    return min(limit, CGROUP1_NO_LIMIT)


def read_limit(files: Files, name: str) -> int:
    """0 where there is no limit, as containerd's reader of pids.max returns it."""
    limit = read_single(files, name, NO_LIMIT)
    return 0 if limit == NO_LIMIT else limit
