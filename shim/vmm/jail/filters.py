"""Compiles the table of calls to programs for seccomp(2), with libseccomp.

A filter takes about a millisecond to make and is the same for every vmm, so a process that
forks them has them made before (`make_filters`).  Nothing is applied here.
Spec: seccomp(2), seccomp_rule_add(3).
"""

import os
from functools import cache
from typing import Final

from native.ffi import Pointer, check, ffi, lib
from shim.vmm.jail.calls import Allowed, Kind, Refused, Rule, list_rules

INSTRUCTION_BYTES: Final = 8
"""struct sock_filter."""
EQUAL: Final = 7
"""SCMP_CMP_MASKED_EQ."""
ERRNO: Final = 0x00050000
"""SCMP_ACT_ERRNO."""
BINARY_TREE: Final = 2
UNKNOWN: Final = -1


@cache
def make_filter(kind: Kind, saves: bool, logs: bool) -> bytes:
    """struct sock_filter[].  `logs`: calls that are not allowed are executed and logged."""
    refusal = lib.SCMP_ACT_LOG if logs else lib.SCMP_ACT_KILL_PROCESS
    context = lib.seccomp_init(refusal)
    if context == ffi.NULL:
        raise MemoryError("seccomp_init")
    try:
        optimize = lib.SCMP_FLTATR_CTL_OPTIMIZE
        check(lib.seccomp_attr_set(context, optimize, BINARY_TREE), "seccomp_attr_set")
        for rule in list_rules(kind, saves):
            add_rule(context, rule)
        return export(context)
    finally:
        lib.seccomp_release(context)


def make_filters(saves: bool, logs: bool) -> dict[Kind, bytes]:
    return {kind: make_filter(kind, saves, logs) for kind in Kind}


def add_rule(context: Pointer, rule: Rule) -> None:
    """Skips a call that this libseccomp does not know: this libc does not make it."""
    name = rule if isinstance(rule, str) else rule.call
    number = lib.seccomp_syscall_resolve_name(name.encode())
    if number == UNKNOWN:
        return
    if not isinstance(rule, Allowed):
        action = ERRNO | rule.error if isinstance(rule, Refused) else lib.SCMP_ACT_ALLOW
        check(lib.seccomp_rule_add_array(context, action, number, 0, ffi.NULL), name)
        return
    for value in rule.values:
        compare = ffi.new("struct scmp_arg_cmp[1]")
        compare[0].arg, compare[0].op = rule.argument, EQUAL
        compare[0].datum_a, compare[0].datum_b = rule.mask, find_value(value)
        result = lib.seccomp_rule_add_array(context, lib.SCMP_ACT_ALLOW, number, 1, compare)
        check(result, name)


def find_value(value: int | str) -> int:
    return value if isinstance(value, int) else int(getattr(lib, value))


def export(context: Pointer) -> bytes:
    fd = os.memfd_create("filter", os.MFD_CLOEXEC)
    try:
        check(lib.seccomp_export_bpf(context, fd), "seccomp_export_bpf")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
