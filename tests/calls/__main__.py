"""`python3 -m tests.calls [PYTEST ARGUMENTS]`: the jail's table beside what a run has used.

Runs the end-to-end tests with `jail: log` while the kernel counts system calls by thread,
and prints Markdown: for each kind of thread what is allowed, used, and allowed but not used,
these with the reasons that tests/calls/reasons.py has for them.  Exit status 1 for a call that
is used and not allowed (told by the kernel's log: a vmm's main thread and its file servers are
counted from their first instruction on, before `jail_restrict`), and for one that is allowed,
not used and without a reason.
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
from tests.calls.reasons import find_reason

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
SINGLE_KINDS: Final[tuple[Kind, ...]] = tuple(kind for kind in Kind if kind is not Kind.THREADS)
"""A thread that starts others may do what each of these may."""
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
    unused = {kind: allowed_by(kind) - used_by(kind, counts) for kind in SINGLE_KINDS}
    print_table(counts, unused)
    superfluous = {
        kind.name.lower(): names
        for kind, calls in unused.items()
        if (names := sorted(call for call in calls if not find_reason(kind, call)))
    }
    print(f"\nCalls that `on` would have ended a vmm for: {denied or 'none'}")
    print(f"Superfluous: {superfluous or 'none'}")
    return 1 if denied or superfluous or tests.returncode else 0


def count_of(kind: Kind, counts: dict[str, Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, calls in counts.items():
        if THREADS[kind].fullmatch(name):
            total.update({SPELT.get(call, call): count for call, count in calls.items()})
    return total


def allowed_by(kind: Kind) -> set[str]:
    rules = list_rules(kind)
    return {rule if isinstance(rule, str) else rule.call for rule in rules} - {
        rule.call for rule in rules if isinstance(rule, Refused)
    }


def used_by(kind: Kind, counts: dict[str, Counter[str]]) -> set[str]:
    return set(count_of(kind, counts))


def print_table(counts: dict[str, Counter[str]], unused: dict[Kind, set[str]]) -> None:
    print("| threads | allowed | used | allowed, not used |\n|---|---|---|---|")
    for kind in SINGLE_KINDS:
        allowed = allowed_by(kind)
        used = len(allowed & used_by(kind, counts))
        names = ", ".join(sorted(unused[kind]))
        print(f"| {kind.name.lower()} | {len(allowed)} | {used} | {names} |")
    for kind, calls in unused.items():
        for call in sorted(calls):
            print(f"* {kind.name.lower()}: {call}: {find_reason(kind, call) or 'no reason'}")


def read_denied() -> dict[str, int]:
    """Of the kernel's log, by thread and number."""
    text = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    found = Counter(f"{match['name']} {match['number']}" for match in DENIED.finditer(text))
    return dict(found)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
