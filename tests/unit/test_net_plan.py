"""Which interfaces of a namespace become the guest's, in which order, by which operations."""

import pytest

from proto.network import Address, Route
from shim.errors import InvalidArgument
from shim.net.plan import Join, MakeTap, Redirect, find_new, plan_network
from shim.net.state import Interface

LOOPBACK = Interface("lo", 1, "", False, "00:00:00:00:00:00", 65536)
MAC = "02:00:00:00:00:02"


def make_link(name: str = "eth0", index: int = 5, kind: str = "veth", mtu: int = 1500) -> Interface:
    return Interface(name, index, kind, True, MAC, mtu)


def test_an_interface_and_its_tap_are_joined_both_ways() -> None:
    plan = plan_network([LOOPBACK, make_link(mtu=9000)], 1)
    assert plan.operations == (
        MakeTap("sampan5", 9000, 1),
        Redirect("eth0", "sampan5"),
        Redirect("sampan5", "eth0"),
    )
    assert plan.joins == (Join("sampan5", plan.joins[0].nic),)
    nic = plan.joins[0].nic
    assert (nic.nic, nic.name, nic.mac, nic.mtu) == (0, "eth0", MAC, 9000)


def test_an_empty_namespace_needs_nothing() -> None:
    plan = plan_network([LOOPBACK], 0)
    assert (plan.operations, plan.joins) == ((), ())


def test_what_has_its_tap_already_is_left_alone_and_the_next_takes_the_next_nic() -> None:
    links = [make_link(), make_link("sampan5", 6, "tun"), make_link("net1", 7)]
    plan = plan_network(links, 2)
    assert [(join.tap, join.nic.nic, join.nic.name) for join in plan.joins] == [
        ("sampan7", 1, "net1")
    ]


def test_interfaces_come_in_the_order_in_which_they_were_made() -> None:
    plan = plan_network([make_link("b", 9), make_link("a", 3)], 2)
    assert [join.nic.name for join in plan.joins] == ["a", "b"]


@pytest.mark.parametrize("kind", ["bridge", "bond"])
def test_what_only_gathers_others_is_none_of_the_guests(kind: str) -> None:
    assert plan_network([make_link("br0", 3, kind)], 1).joins == ()


def test_tunnels_without_ethernet_are_none_of_the_guests() -> None:
    assert plan_network([Interface("tunl0", 2, "ipip", False, "", 1480)], 1).joins == ()


def test_more_interfaces_than_the_machine_has_room_for_are_named() -> None:
    with pytest.raises(InvalidArgument, match="no room for eth0, net1: the machine has 1"):
        plan_network([make_link(), make_link("net1", 7)], 1)


def test_a_gateway_comes_after_the_way_to_it() -> None:
    gateway, direct = Route("default", gateway="10.0.0.1"), Route("10.0.0.1/32", scope="link")
    link = Interface(
        "eth0", 5, "veth", True, MAC, 1500, (Address("10.0.0.2", 32),), (gateway, direct)
    )
    assert plan_network([link], 1).joins[0].nic.routes == (direct, gateway)


def test_what_is_new_is_found_by_names_alone() -> None:
    assert find_new(["eth0", "sampan5", "net1"], ["eth0"]) == ["net1"]


def test_a_taps_name_has_room_for_any_index() -> None:
    plan = plan_network([make_link(index=(1 << 31) - 1)], 1)
    assert len(plan.joins[0].tap) <= 16
