"""The kernel's histogram of system calls as tests/calls reads it."""

from tests.calls.__main__ import SINGLE_KINDS, THREADS, allowed_by, count_of
from tests.calls.histogram import parse_counts
from tests.calls.reasons import EVERY_KIND, REASONS

ROWS = (
    ("vcpu0", "sys_ioctl", 16, 5012),
    ("vcpu1", "sys_ioctl", 16, 3),
    ("fs", "sys_newfstat", 5, 1),
    ("a b", "sys_read", 0, 7),
)
TEXT = "# event histogram\n#\n\n" + "".join(
    f"{{ common_pid: {name:<15} [{301:>10}], id: {call:<28} [{number:>3}] }}"
    f" hitcount: {count:>10}\n"
    for name, call, number, count in ROWS
)


def test_calls_are_counted_by_the_kind_of_thread() -> None:
    counts = parse_counts(TEXT)
    by_kind = {kind.name: dict(count_of(kind, counts)) for kind in THREADS}
    assert by_kind["VCPU"] == {"ioctl": 5015}
    assert by_kind["FILES"] == {"fstat": 1}
    assert counts["a b"] == {"read": 7}


def test_each_reason_is_for_a_call_that_is_allowed() -> None:
    for kind, reasons in REASONS.items():
        assert reasons.keys() <= allowed_by(kind), kind
    assert EVERY_KIND.keys() <= set.union(*(allowed_by(kind) for kind in SINGLE_KINDS))
