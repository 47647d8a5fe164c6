"""`python3 -m tests.calls [PYTEST ARGUMENTS]`: the jail's table beside what a run has used.

Runs the end-to-end tests with `jail: log` while the kernel counts system calls by thread,
and prints a Markdown table: for each kind of thread what is allowed, used, allowed and not
used, and used and not allowed.  Exit status 1 when there is one of the last.  A vmm's main
thread and its file servers are counted from their first instruction on, before `jail_restrict`:
what they use until then is not in the last column, the kernel's log is asked for it.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import yaml

from shim.vmm.jail.calls import Kind, Refused, list_rules
from tests.calls.histogram import counting, read_counts

CONFIG: Final = Path("/etc/sampan/config.yaml")
DEFAULT_TESTS: Final = ("-q", "-o", "timeout=300", "-m", "not slow", "tests/e2e")
THREADS: Final = {
    Kind.MAIN: re.compile(r"sampan-vmm"),
    Kind.VCPU: re.compile(r"vcpu\d+"),
    Kind.FILES: re.compile(r"fs"),
    Kind.STREAMS: re.compile(r"vsock"),
    Kind.NETWORK: re.compile(r"net|net-control"),
    Kind.MEMORY: re.compile(r"balloon"),
    Kind.THREADS: re.compile(r"threads"),
}
SPELT: Final = {"newfstat": "fstat", "newfstatat": "newfstatat", "sendto": "sendto"}
"""The kernel's names of functions that are not those of the calls."""
DENIED: Final = re.compile(r"type=1326 .* comm=\"(?P<name>[^\"]*)\".* syscall=(?P<number>\d+)")


def main(arguments: list[str]) -> int:
    values = yaml.safe_load(CONFIG.read_text()) if CONFIG.exists() else {}
    before = CONFIG.read_text() if CONFIG.exists() else ""
    CONFIG.write_text(yaml.safe_dump({**(values or {}), "jail": "log"}))
    try:
        with counting():
            tests = subprocess.run(
                [sys.executable, "-m", "pytest", *(arguments or DEFAULT_TESTS)], check=False
            )
            counts = read_counts()
    finally:
        CONFIG.write_text(before)
    denied = read_denied()
    print_table(counts)
    print(f"\nCalls that `on` would have ended a vmm for: {denied or 'none'}")
    return 1 if denied or tests.returncode else 0


def count_of(kind: Kind, counts: dict[str, Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, calls in counts.items():
        if THREADS[kind].fullmatch(name):
            total.update({SPELT.get(call, call): count for call, count in calls.items()})
    return total


def print_table(counts: dict[str, Counter[str]]) -> None:
    print("| threads | allowed | used | allowed, not used |\n|---|---|---|---|")
    for kind in Kind:
        rules = list_rules(kind)
        allowed = {rule if isinstance(rule, str) else rule.call for rule in rules}
        allowed -= {rule.call for rule in rules if isinstance(rule, Refused)}
        used = set(count_of(kind, counts))
        unused = ", ".join(sorted(allowed - used))
        print(f"| {kind.name.lower()} | {len(allowed)} | {len(allowed & used)} | {unused} |")


def read_denied() -> dict[str, int]:
    """Of the kernel's log, by thread and number."""
    text = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    found = Counter(f"{match['name']} {match['number']}" for match in DENIED.finditer(text))
    return dict(found)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
