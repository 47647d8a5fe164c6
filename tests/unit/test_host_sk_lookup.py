"""The eBPF program of the loopback forward, as the kernel is given it.

What it does is tests/integration/test_forward.py's: here, that it is put together right.
"""

import struct

import pytest

from shim.host.sk_lookup import Instruction, assemble, make_program
from shim.net.listeners import list_listening_ports

INSTRUCTION = struct.Struct("<BBhi")
PSEUDO_MAP = 0x11
"""Destination r1, source BPF_PSEUDO_MAP_FD."""


def test_jumps_go_to_the_instruction_of_their_name() -> None:
    program = (
        Instruction(0x05, jump="end"),
        Instruction(0xB7, value=7),
        Instruction(0x95, name="end"),
    )
    assert [INSTRUCTION.unpack(assemble(program)[at : at + 8]) for at in (0, 8, 16)] == [
        (0x05, 0, 1, 0),
        (0xB7, 0, 0, 7),
        (0x95, 0, 0, 0),
    ]


def test_a_jump_to_no_name_is_refused() -> None:
    with pytest.raises(KeyError):
        assemble((Instruction(0x05, jump="nowhere"), Instruction(0x95)))


def test_the_program_names_both_maps_and_passes_whatever_it_does_not_take() -> None:
    code = assemble(make_program(sockets=5, taken=6))
    steps = [INSTRUCTION.unpack_from(code, at) for at in range(0, len(code), INSTRUCTION.size)]
    assert [value for _, registers, _, value in steps if registers == PSEUDO_MAP] == [6, 5]
    assert steps[-2:] == [(0xB7, 0, 0, 1), (0x95, 0, 0, 0)]  # r0 = SK_PASS; exit
    targets = {at + 1 + step[2] for at, step in enumerate(steps) if step[0] in (0x05, 0x15, 0x55)}
    assert max(targets) == len(steps) - 2


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 0100007F:0050 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0
   2: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0
"""


def test_ports_are_those_of_sockets_that_listen() -> None:
    assert list_listening_ports(TCP) == {8080, 22}
