"""The jail's table and its filters, as values; what they do: tests/integration/test_jail.py."""

import struct

import pytest

from native.ffi import lib
from shim.vmm.jail.calls import TABLE, Allowed, Kind, keep_capabilities, list_rules
from shim.vmm.jail.filters import INSTRUCTION_BYTES, find_value, make_filter

NEVER = frozenset(
    "execve execveat ptrace mount umount2 pivot_root chroot setns bpf keyctl socket connect"
    " open_tree move_mount fsopen init_module process_vm_readv open_by_handle_at fork vfork"
    " io_uring_setup userfaultfd perf_event_open pkey_mprotect memfd_create kill".split()
)
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
RET_KILL_PROCESS, RET_LOG = 0x80000000, 0x7FFC0000
BPF_RET = 0x06
SYS_ADMIN = 21


def list_names(kind: Kind, saves: bool = False) -> set[str]:
    return {rule if isinstance(rule, str) else rule.call for rule in list_rules(kind, saves)}


def read_results(program: bytes) -> set[int]:
    """The values that a filter may return."""
    instructions = struct.iter_unpack("=HBBI", program)
    return {value for code, _, _, value in instructions if code == BPF_RET}


@pytest.mark.parametrize("kind", list(Kind))
def test_no_kind_may_do_what_none_needs(kind: Kind) -> None:
    assert not list_names(kind, saves=True) & NEVER


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.FILES])
def test_only_file_servers_open_files_and_keep_capabilities(kind: Kind) -> None:
    if kind is Kind.THREADS:
        return  # it does nothing itself, but may do what its threads may
    assert not list_names(kind) & {"open", "openat", "openat2", "capset", "mknodat"}
    assert keep_capabilities(kind) == 0


def test_file_servers_do_not_administer_the_system() -> None:
    assert keep_capabilities(Kind.FILES) & 1 << SYS_ADMIN == 0


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("call", ["mmap", "mprotect"])
def test_no_kind_makes_memory_executable(kind: Kind, call: str) -> None:
    rules = [rule for rule in list_rules(kind) if not isinstance(rule, str) and rule.call == call]
    assert all(
        isinstance(rule, Allowed) and rule.mask & 4 and rule.values == (0,) for rule in rules
    )
    assert call not in list_rules(kind)


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_not_in_the_table_ends_the_process_or_is_logged(kind: Kind) -> None:
    for logs, refusal in ((False, RET_KILL_PROCESS), (True, RET_LOG)):
        program = make_filter(kind, saves=False, logs=logs)
        assert len(program) // INSTRUCTION_BYTES < MAX_INSTRUCTIONS
        assert refusal in read_results(program)
    assert RET_LOG not in read_results(make_filter(kind, saves=False, logs=False))


def test_kinds_are_those_of_the_c_layer() -> None:
    assert len(Kind) == len(TABLE) == lib.JAIL_KINDS


def test_every_named_constant_is_one_of_the_kernels() -> None:
    for kind in Kind:
        for rule in list_rules(kind, saves=True):
            if isinstance(rule, Allowed):
                assert all(find_value(value) >= 0 for value in rule.values), rule


def test_saving_is_for_machines_that_become_templates() -> None:
    assert set(list_rules(Kind.MAIN, saves=True)) > set(list_rules(Kind.MAIN))
