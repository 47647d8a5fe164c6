"""Sockets of a network namespace that listen on an address, from /proc/net (proc(5)).

Pure.  Addresses are the hexadecimal words of the host's byte order, little-endian.
"""

from ipaddress import IPv4Address
from typing import Final

UDP_UNCONNECTED: Final = "07"
TCP_LISTENING: Final = "0A"


def find_port(text: str, address: str, state: str) -> int:
    """Of the first socket in `text`, /proc/net/udp or tcp, in `state`; 0 for none."""
    wanted = IPv4Address(address).packed[::-1].hex().upper()
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == state and words[1].startswith(f"{wanted}:"):
            return int(words[1].partition(":")[2], 16)
    return 0


def list_listening_ports(text: str) -> set[int]:
    """Of TCP sockets in `text`, /proc/net/tcp or tcp6, at any address."""
    rows = (line.split() for line in text.splitlines()[1:])
    listening = (row[1] for row in rows if len(row) > 3 and row[3] == TCP_LISTENING)
    return {int(address.rpartition(":")[2], 16) for address in listening}
