"""Connections to loopback addresses of a network namespace, whatever their port, go to one
listening socket: an eBPF program of type BPF_PROG_TYPE_SK_LOOKUP on the namespace.

No port but the socket's own is taken, and an accepted socket's address is the one that was
asked for.
Spec: the kernel's bpf/prog_sk_lookup.rst, bpf(2), linux/bpf.h.  Needs Linux 5.9.
"""

import ctypes
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Self

from shim.host.fds import close_all
from shim.host.syscalls import bpf

MAP_CREATE: Final = 0
MAP_UPDATE_ELEM: Final = 2
PROG_LOAD: Final = 5
LINK_CREATE: Final = 28
MAP_TYPE_HASH: Final = 1
MAP_TYPE_SOCKMAP: Final = 15
PROG_TYPE_SK_LOOKUP: Final = 30
ATTACH_SK_LOOKUP: Final = 36
CALL_MAP_LOOKUP: Final = 1
CALL_SK_RELEASE: Final = 86
CALL_SK_ASSIGN: Final = 124
SK_PASS: Final = 1
LICENCE: Final = b"Apache-2.0"
WORD_BYTES: Final = 4
MOST_PORTS: Final = 1024
"""That stay as they are.  The map has its memory from the start: 65536 ports took 5 MiB a pod."""

FAMILY: Final = 8
PROTOCOL: Final = 12
LOCAL_IP4: Final = 40
LOCAL_IP6: Final = 44
LOCAL_PORT: Final = 60
"""Offsets in struct bpf_sk_lookup.  Addresses are in network byte order."""
IPV4, IPV6 = 0, 1
"""Keys of the sockets in their map."""
KEY, PORT = -4, -8
"""Places on the program's stack."""


class Instruction(NamedTuple):
    """struct bpf_insn; `jump` is the name of the instruction that it may go to."""

    code: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    value: int = 0
    jump: str = ""
    name: str = ""
    """By which others go here."""


def load(destination: int, source: int, offset: int, name: str = "") -> Instruction:
    return Instruction(0x61, destination, source, offset, name=name)


def move(destination: int, source: int) -> Instruction:
    return Instruction(0xBF, destination, source)


def unless_equal(register: int, value: int, jump: str) -> Instruction:
    return Instruction(0x55, register, value=value, jump=jump)


def if_equal(register: int, value: int, jump: str) -> Instruction:
    return Instruction(0x15, register, value=value, jump=jump)


def call(function: int) -> Instruction:
    return Instruction(0x85, value=function)


def look_up(fd: int, place: int) -> tuple[Instruction, ...]:
    """r0: what the map has for the key at `place` of the stack, or 0."""
    return (
        Instruction(0x18, 1, 1, value=fd),  # BPF_PSEUDO_MAP_FD, two instructions long
        Instruction(0),
        move(2, 10),
        Instruction(0x07, 2, value=place),
        call(CALL_MAP_LOOKUP),
    )


def make_program(sockets: int, taken: int) -> tuple[Instruction, ...]:
    """`sockets`: the map of listening sockets; `taken`: of ports that stay as they are."""
    return (
        move(6, 1),
        load(2, 6, PROTOCOL),
        unless_equal(2, socket.IPPROTO_TCP, "pass"),
        load(2, 6, FAMILY),
        if_equal(2, socket.AF_INET, "IPv4"),
        unless_equal(2, socket.AF_INET6, "pass"),
        *(
            step
            for word, value in enumerate((0, 0, 0, socket.htonl(1)))
            for step in (
                load(2, 6, LOCAL_IP6 + word * WORD_BYTES),
                unless_equal(2, value, "pass"),
            )
        ),
        Instruction(0x62, 10, offset=KEY, value=IPV6),
        Instruction(0x05, jump="port"),
        load(2, 6, LOCAL_IP4, name="IPv4"),
        Instruction(0x57, 2, value=0xFF),
        unless_equal(2, 127, "pass"),
        Instruction(0x62, 10, offset=KEY, value=IPV4),
        load(2, 6, LOCAL_PORT, name="port"),
        Instruction(0x63, 10, 2, PORT),
        *look_up(taken, PORT),
        unless_equal(0, 0, "pass"),
        *look_up(sockets, KEY),
        if_equal(0, 0, "pass"),
        move(7, 0),
        move(1, 6),
        move(2, 7),
        Instruction(0xB7, 3),
        call(CALL_SK_ASSIGN),
        move(1, 7),
        call(CALL_SK_RELEASE),
        Instruction(0xB7, 0, value=SK_PASS, name="pass"),
        Instruction(0x95),
    )


def assemble(program: Sequence[Instruction]) -> bytes:
    """A jump counts from the instruction behind it."""
    places = {step.name: place for place, step in enumerate(program) if step.name}
    return b"".join(
        struct.pack(
            "<BBhi",
            step.code,
            step.destination | step.source << 4,
            places[step.jump] - place - 1 if step.jump else step.offset,
            step.value,
        )
        for place, step in enumerate(program)
    )


class LoopbackLookup:
    """Lifecycle: `attach`; `leave_alone` any time; `close`, and connections go as before."""

    def __init__(self, taken: int, others: Iterable[int]) -> None:
        self._taken = taken
        self._others = list(others)

    @classmethod
    def attach(
        cls,
        namespace: int,
        ipv4: socket.socket,
        ipv6: socket.socket | None,
        left_alone: Iterable[int],
    ) -> Self:
        """The sockets listen in `namespace`, and stay the caller's; the ports of `left_alone`
        are so from the first moment on.  OSError where the kernel does not have this, or does
        not allow it."""
        fds: list[int] = []
        try:
            fds.append(taken := make_map(MAP_TYPE_HASH, MOST_PORTS))
            fds.append(sockets := make_map(MAP_TYPE_SOCKMAP, 2))
            for key, listener in ((IPV4, ipv4), (IPV6, ipv6)):
                if listener is not None:
                    update(sockets, key, listener.fileno())
            for port in left_alone:
                update(taken, port, 1)
            fds.append(program := load_program(assemble(make_program(sockets, taken))))
            arguments = struct.pack("<IIII", program, namespace, ATTACH_SK_LOOKUP, 0)
            fds.append(bpf(LINK_CREATE, arguments))
        except OSError:
            close_all(fds)
            raise
        return cls(taken, fds)

    def leave_alone(self, port: int) -> None:
        """Connections to this port go to whoever listens there."""
        update(self._taken, port, 1)

    def close(self) -> None:
        """Idempotent."""
        close_all(self._others)
        self._others.clear()


def make_map(kind: int, entries: int) -> int:
    return bpf(MAP_CREATE, struct.pack("<IIII", kind, WORD_BYTES, WORD_BYTES, entries))


def update(fd: int, key: int, value: int) -> None:
    words = (ctypes.c_uint32(key), ctypes.c_uint32(value))
    places = (ctypes.addressof(word) for word in words)
    bpf(MAP_UPDATE_ELEM, struct.pack("<IxxxxQQQ", fd, *places, 0))


def load_program(code: bytes) -> int:
    instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(LICENCE)
    arguments = struct.pack(
        "<IIQQIIQII16sII",
        PROG_TYPE_SK_LOOKUP,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        *(0, 0, 0, 0, 0),
        b"sampan",
        0,
        ATTACH_SK_LOOKUP,
    )
    return bpf(PROG_LOAD, arguments)
