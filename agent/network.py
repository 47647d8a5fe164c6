"""The guest's network interfaces: lo at the start, others when the shim requests
them.

lo by ioctl (netdevice(7)): a netlink library would take more time than the rest of
the guest's set-up.  The others by one run of ip(8), for the same reason.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent import modules
from agent.errors import InvalidArgument, RuntimeFailure
from agent.reaper import Reaper
from proto.gen.agent.v1 import agent_pb2 as pb

SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
SIOCSIFFLAGS: Final = 0x8914
IFF_UP: Final = 1  # linux/if.h
IFREQ: Final = struct.Struct("16sh22x")
LINKS: Final = Path("/sys/class/net")
IP: Final = ("/usr/bin/ip", "-batch", "-")
EVERYTHING: Final = {4: "0.0.0.0/0", 6: "::/0"}
"""The lines of a batch cannot name the family of `default`."""
MAX_MESSAGE_BYTES: Final = 4096
TEMPORARY: Final = "sampan-nic"
"""Temporary names: another interface may have the requested name until it gets its own."""


def bring_up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = IFREQ.pack(name.encode(), 0)
        _, flags = IFREQ.unpack(fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, IFREQ.pack(name.encode(), flags | IFF_UP))


async def configure(nics: Sequence[pb.Nic], reaper: Reaper) -> None:
    """RuntimeFailure with ip's message if the kernel refuses something."""
    modules.load_nic_driver()
    devices = list_devices()
    for nic in nics:
        if nic.nic >= len(devices):
            count = len(devices)
            raise InvalidArgument(f"nic {nic.nic} ({nic.name}): the machine has {count} interfaces")
    await run_batch("".join(f"{line}\n" for line in write_batch(nics, devices)), reaper)


async def run_batch(batch: str, reaper: Reaper) -> None:
    """ip reads and writes files in memory, so no bytes have to be moved while it runs."""
    with memory_file(batch.encode()) as commands, memory_file(b"") as messages:
        end = await reaper.claim(spawn_ip(commands, messages))
        if end.status != 0:
            said = os.pread(messages, MAX_MESSAGE_BYTES, 0).decode(errors="replace")
            raise RuntimeFailure(f"network: {' '.join(said.split())}")


def spawn_ip(commands: int, messages: int) -> int:
    actions = [
        (os.POSIX_SPAWN_DUP2, commands, 0),
        (os.POSIX_SPAWN_DUP2, messages, 1),
        (os.POSIX_SPAWN_DUP2, messages, 2),
    ]
    return os.posix_spawn(IP[0], IP, {}, file_actions=actions, setsigmask=())


@contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("ip")
    try:
        os.pwrite(fd, content, 0)
        yield fd
    finally:
        os.close(fd)


def list_devices() -> list[str]:
    """Our driver's interfaces in PCI order, which is the machine's."""
    found = []
    for link in LINKS.iterdir():
        driver = link / "device/driver"
        if driver.exists() and driver.resolve().name == modules.NIC_DRIVER:
            found.append((os.fspath((link / "device").resolve()), link.name))
    return [name for _, name in sorted(found)]


def write_batch(nics: Sequence[pb.Nic], devices: Sequence[str]) -> Iterator[str]:
    """Pure: lines of ip(8)."""
    for nic in nics:
        if not nic.name or not nic.mac:
            raise InvalidArgument(
                f"nic {nic.nic}: expected a name and a mac, are {nic.name!r} and {nic.mac!r}"
            )
        for route in nic.routes:
            if route.family not in EVERYTHING:
                raise InvalidArgument(
                    f"nic {nic.nic}: route family: expected 4 or 6, is {route.family}"
                )
        for text in list_texts(nic):
            if not text.isprintable() or " " in text:
                raise InvalidArgument(f"nic {nic.nic}: expected text without spaces, is {text!r}")
        yield f"link set dev {devices[nic.nic]} down"
        yield f"link set dev {devices[nic.nic]} name {TEMPORARY}{nic.nic}"
    for nic in nics:
        yield f"link set dev {TEMPORARY}{nic.nic} name {nic.name}"
        yield f"link set dev {nic.name} address {nic.mac} mtu {nic.mtu} up"
        yield from write_addresses(nic)
    for nic in nics:
        for neighbour in nic.neighbours:
            yield (
                f"neighbour replace {neighbour.address} lladdr {neighbour.mac} dev {nic.name} "
                "nud permanent"
            )
        for route in nic.routes:
            yield write_route(nic.name, route)


def list_texts(nic: pb.Nic) -> Iterator[str]:
    yield from (nic.name, nic.mac)
    for address in nic.addresses:
        yield from (address.address, address.broadcast)
    for route in nic.routes:
        yield from (route.network, route.gateway, route.source, route.scope)
    for neighbour in nic.neighbours:
        yield from (neighbour.address, neighbour.mac)


def write_addresses(nic: pb.Nic) -> Iterator[str]:
    for address in nic.addresses:
        line = f"address replace {address.address}/{address.prefix_length} dev {nic.name}"
        if address.broadcast:
            line += f" broadcast {address.broadcast}"
        # The host has checked this address for duplicates; it is used at once.
        yield line + " nodad" if ":" in address.address else line


def write_route(device: str, route: pb.NicRoute) -> str:
    network = EVERYTHING[route.family] if route.network == "default" else route.network
    line = f"route replace {network} dev {device}"
    if route.gateway:
        line += f" via {route.gateway}"
    if route.source:
        line += f" src {route.source}"
    if route.family == 4:
        line += f" scope {route.scope}"
    if route.metric:
        line += f" metric {route.metric}"
    return line + " onlink" if route.onlink else line
