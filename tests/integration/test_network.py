"""A container's network wired in real namespaces: a tap's other end stands for the guest."""

import os
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from proto.network import Address, Neighbour, Route
from shim.errors import HostResource, InvalidArgument
from shim.host.fds import close_all
from shim.host.netns import entered, list_links, make_namespace, open_namespace
from shim.machine.directory import SandboxDirectory
from shim.machine.namespace import PreparedNetwork
from shim.machine.network import join_links
from shim.machine.network_note import release_links, undo_note, write_note
from shim.net import netlink
from shim.net.plan import MakeTap, NetworkPlan, Operation, Redirect

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HEADER = bytes(12)
"""struct virtio_net_hdr_v1: no offload requested."""
BROADCAST = b"\xff" * 6
ARP = 0x0806


def ip(namespace: int, *lines: str) -> None:
    with entered(namespace):
        for line in lines:
            subprocess.run(["ip", *line.split()], check=True)


@pytest.fixture
def container() -> Iterator[int]:
    """As CNI's bridge or ptp sets it up: one veth with addresses, a gateway, a neighbour."""
    namespace = make_namespace()
    yield namespace
    os.close(namespace)


@pytest.fixture
def outside(container: int) -> Iterator[int]:
    """The other end of the container's veth, in a namespace of its own."""
    namespace = make_namespace()
    ip(container, "link add eth0 type veth peer name far")
    ip(container, f"link set far netns /proc/{os.getpid()}/fd/{namespace}")
    ip(
        container,
        "link set eth0 address 02:00:00:00:00:02 mtu 1450 up",
        "addr add 10.77.0.2/24 brd 10.77.0.255 dev eth0",
        "-6 addr add fd77::2/64 dev eth0 nodad",
        "route add default via 10.77.0.1",
        "-6 route add default via fd77::1",
        "neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
    )
    ip(namespace, "link set far mtu 1450 up", "addr add 10.77.0.1/24 dev far")
    yield namespace
    os.close(namespace)


def list_filters(namespace: int, name: str) -> str:
    with entered(namespace):
        shown = subprocess.run(
            ["tc", "filter", "show", "dev", name, "parent", "ffff:"],
            capture_output=True,
            text=True,
            check=False,
        )
    return shown.stdout


def ask_arp(mac: bytes, own: str, wanted: str) -> bytes:
    """An Ethernet frame: who has `wanted`? (RFC 826)"""
    body = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1)
    body += mac + socket.inet_aton(own) + bytes(6) + socket.inet_aton(wanted)
    return BROADCAST + mac + struct.pack(">H", ARP) + body


def receive(tap: int, kind: int) -> bytes:
    """The next frame of an EtherType."""
    while True:
        ready, _, _ = select.select([tap], [], [], 10)
        assert ready, "no frame has come"
        packet = os.read(tap, 65536)
        frame = packet[len(HEADER) :]
        if struct.unpack_from(">H", frame, 12)[0] == kind:
            return frame


def join_up(namespace: int, nics: int, queues: int = 1) -> tuple[NetworkPlan, dict[str, list[int]]]:
    return join_links(PreparedNetwork(namespace, "", nics, queues))


def close_taps(taps: dict[str, list[int]]) -> None:
    for fds in taps.values():
        close_all(fds)


@pytest.mark.usefixtures("outside")
def test_what_the_namespace_has_is_what_the_guest_gets(container: int) -> None:
    plan, taps = join_up(container, 1)
    close_taps(taps)
    (join,) = plan.joins
    assert (join.nic.nic, join.nic.name, join.nic.mac) == (0, "eth0", "02:00:00:00:00:02")
    assert join.nic.mtu == 1450
    assert set(join.nic.addresses) == {
        Address("10.77.0.2", 24, "10.77.0.255"),
        Address("fd77::2", 64),
    }
    assert Route("default", gateway="10.77.0.1") in join.nic.routes
    assert Route("default", gateway="fd77::1", metric=1024, family=6) in join.nic.routes
    assert join.nic.neighbours == (Neighbour("10.77.0.9", "02:00:00:00:00:09"),)


def test_frames_pass_both_ways_with_the_guests_own_address(container: int, outside: int) -> None:
    _, taps = join_up(container, 1)
    ((tap,),) = taps.values()
    mac = bytes.fromhex("020000000002")
    os.write(tap, HEADER + ask_arp(mac, "10.77.0.2", "10.77.0.1"))
    answer = receive(tap, ARP)
    assert answer[:6] == mac
    assert answer[28:32] == socket.inet_aton("10.77.0.1")
    with entered(outside):
        known = subprocess.run(["ip", "neigh"], capture_output=True, text=True, check=True).stdout
    assert "10.77.0.2 dev far lladdr 02:00:00:00:00:02" in known
    os.close(tap)


@pytest.mark.usefixtures("outside")
def test_a_tap_has_a_queue_for_each_pair_of_the_machine_s(container: int) -> None:
    _, taps = join_up(container, 1, queues=4)
    (fds,) = taps.values()
    assert len(fds) == len(set(fds)) == 4
    with entered(container):
        shown = subprocess.run(
            ["ip", "-d", "link", "show", *taps], capture_output=True, text=True, check=True
        )
    assert "multi_queue numqueues 4" in shown.stdout
    close_taps(taps)


def add_link(container: int, outside: int, name: str) -> None:
    ip(container, f"link add {name} type veth peer name far-{name}")
    ip(container, f"link set far-{name} netns /proc/{os.getpid()}/fd/{outside}")


def test_a_second_check_finds_nothing_to_do_and_a_new_interface_is_joined(
    container: int, outside: int
) -> None:
    _, taps = join_up(container, 2)
    plan, none = join_up(container, 2)
    assert (plan.joins, none) == ((), {})
    add_link(container, outside, "net1")
    plan, more = join_up(container, 2)
    assert [(join.nic.nic, join.nic.name) for join in plan.joins] == [(1, "net1")]
    add_link(container, outside, "net2")
    with pytest.raises(InvalidArgument, match="no room for net2: the machine has 2"):
        join_up(container, 2)
    close_taps({**taps, **more})


def describe_links(namespace: int) -> str:
    with entered(namespace):
        shown = subprocess.run(["ip", "link"], capture_output=True, text=True, check=True)
    return shown.stdout


@pytest.mark.usefixtures("outside")
def test_a_tap_goes_with_its_descriptor_and_redirections_are_given_back(container: int) -> None:
    ip(container, "link set eth0 txqueuelen 0")  # as CNI's bridge makes it
    before = describe_links(container)
    _, taps = join_up(container, 1)
    assert "mirred" in list_filters(container, "eth0")
    close_taps(taps)
    assert release_links(container, ["eth0", "gone"]) == []
    assert describe_links(container) == before
    assert list_filters(container, "eth0") == ""


@pytest.mark.usefixtures("outside")
def test_what_a_dead_shim_has_left_is_undone_by_its_note(container: int, tmp_path: Path) -> None:
    _, taps = join_up(container, 1)
    close_taps(taps)
    sandbox = SandboxDirectory(str(tmp_path))
    write_note(sandbox, f"/proc/{os.getpid()}/fd/{container}", ["eth0"])
    assert undo_note(sandbox) == []
    assert list_filters(container, "eth0") == ""


@pytest.mark.parametrize("note", ["", "[]", '{"links": 3, "namespace": "/x"}', '{"links": []}'])
def test_a_note_that_makes_no_sense_harms_nothing(tmp_path: Path, note: str) -> None:
    (tmp_path / "network.json").write_text(note)
    assert undo_note(SandboxDirectory(str(tmp_path))) == []


@pytest.mark.usefixtures("outside")
def test_what_fails_half_way_leaves_nothing(container: int) -> None:
    before = list_links(container)
    operations: list[Operation] = [
        MakeTap("sampan9", 1500, 1),
        Redirect("eth0", "sampan9"),
        Redirect("nowhere", "x"),
    ]
    with entered(container), pytest.raises(HostResource, match="nowhere"):
        netlink.apply(operations)
    assert list_links(container) == before
    assert list_filters(container, "eth0") == ""


def test_a_thread_enters_a_namespace_and_others_stay_where_they_are(container: int) -> None:
    ip(container, "link add only-here type veth peer name other-end")
    seen: list[set[str]] = []

    def look() -> None:
        with entered(container):
            seen.append({name for _, name in socket.if_nameindex()})
        seen.append({name for _, name in socket.if_nameindex()})

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert "only-here" in seen[0]
    assert "only-here" not in seen[1]
    assert "only-here" not in {name for _, name in socket.if_nameindex()}


@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_path_that_is_no_namespace_is_named(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "file":
        path.touch()
    with pytest.raises(InvalidArgument, match=f"{path}: no network namespace"):
        open_namespace(str(path))
