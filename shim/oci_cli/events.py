"""`events`: a container's figures, as runc prints them, once or until it has ended."""

import json
import time
from typing import Any, Final

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from shim.oci_cli.call import Call
from shim.oci_cli.order import order
from shim.oci_cli.record import Record

DEFAULT_INTERVAL: Final = "5s"
UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
NO_LIMIT: Final = (1 << 64) - 1
Figures = dict[str, dict[str, int]]
"""By file of the guest's cgroup v2 and key."""


def events(call: Call) -> int:
    interval_s = parse_interval(call.line.flags.text("interval", DEFAULT_INTERVAL))
    record = call.find()
    answer = order(call, record, "stats")
    print_event("stats", record, build_stats(answer["figures"]))
    if "stats" in call.line.flags.truths:
        return 0
    kills = answer["oom_kills"]
    while True:
        time.sleep(interval_s)
        try:
            answer = order(call, call.find(), "stats")
        except (FailedPrecondition, NotFound, Unavailable):
            return 0  # it has ended
        if answer["oom_kills"] != kills:
            kills = answer["oom_kills"]
            print_event("oom", record, None)
        print_event("stats", record, build_stats(answer["figures"]))


def print_event(kind: str, record: Record, data: dict[str, Any] | None) -> None:
    event = {"type": kind, "id": record.id, **({"data": data} if data is not None else {})}
    print(json.dumps(event), flush=True)


def parse_interval(text: str) -> float:
    number = text.rstrip("hms")
    try:
        interval_s = float(number) * UNITS_S[text[len(number) :]]
    except (ValueError, KeyError) as error:
        raise InvalidArgument(f"--interval: expected a time as 5s, is {text!r}") from error
    if not 0 < interval_s < float("inf"):
        raise InvalidArgument(f"--interval: expected a time above 0, is {text!r}")
    return interval_s


def build_stats(figures: Figures) -> dict[str, Any]:
    """runc's types.Stats: nanoseconds and bytes."""
    cpu, stat = figures.get("cpu.stat", {}), figures.get("memory.stat", {})
    events_of = figures.get("memory.events", {})
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * 1000,
            },
        },
        "memory": {
            "cache": stat.get("file", 0),
            "usage": {
                "limit": read_single(figures, "memory.max", NO_LIMIT),
                "usage": read_single(figures, "memory.current"),
                "max": read_single(figures, "memory.peak"),
                "failcnt": events_of.get("max", 0),
            },
            "swap": {
                "limit": read_single(figures, "memory.swap.max", NO_LIMIT),
                "usage": read_single(figures, "memory.swap.current"),
                "failcnt": 0,
            },
            "raw": stat,
        },
        "pids": {
            "current": read_single(figures, "pids.current"),
            "limit": read_limit(figures, "pids.max"),
        },
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def read_single(figures: Figures, name: str, default: int = 0) -> int:
    return figures.get(name, {}).get("", default)


def read_limit(figures: Figures, name: str) -> int:
    """0 where there is none."""
    limit = read_single(figures, name, NO_LIMIT)
    return 0 if limit == NO_LIMIT else limit
