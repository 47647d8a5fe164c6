"""The lines of ip(8) that configure the guest's interfaces."""

from typing import Any

import pytest

from agent.errors import InvalidArgument
from agent.network import write_batch
from proto.gen.agent.v1 import agent_pb2 as pb

MAC = "02:00:00:00:00:02"


def make_nic(**fields: object) -> pb.Nic:
    given: dict[str, Any] = {"nic": 0, "name": "eth0", "mac": MAC, "mtu": 1450, **fields}
    return pb.Nic(**given)


def write(*nics: pb.Nic, devices: tuple[str, ...] = ("eth0", "eth1")) -> list[str]:
    return list(write_batch(nics, devices))


def test_an_interface_gets_its_name_address_and_mtu_and_comes_up() -> None:
    assert write(make_nic(name="net7")) == [
        "link set dev eth0 down",
        "link set dev eth0 name sampan-nic0",
        "link set dev sampan-nic0 name net7",
        f"link set dev net7 address {MAC} mtu 1450 up",
    ]


def test_names_may_be_swapped() -> None:
    lines = write(make_nic(nic=0, name="eth1"), make_nic(nic=1, name="eth0"))
    assert lines.index("link set dev eth1 name sampan-nic1") < lines.index(
        "link set dev sampan-nic0 name eth1"
    )


def test_addresses_of_both_families() -> None:
    lines = write(
        make_nic(
            addresses=[
                {"address": "10.0.0.2", "prefix_length": 24, "broadcast": "10.0.0.255"},
                {"address": "fd00::2", "prefix_length": 64},
            ]
        )
    )
    assert lines[4:] == [
        "address replace 10.0.0.2/24 dev eth0 broadcast 10.0.0.255",
        "address replace fd00::2/64 dev eth0 nodad",
    ]


def test_routes_keep_what_was_said_of_them() -> None:
    lines = write(
        make_nic(
            routes=[
                {"network": "10.0.0.1/32", "scope": "link", "family": 4},
                {"network": "default", "gateway": "10.0.0.1", "scope": "global", "family": 4,
                 "source": "10.0.0.2", "metric": 7, "onlink": True},
                {"network": "default", "gateway": "fd00::1", "scope": "global", "family": 6},
            ],
            neighbours=[{"address": "10.0.0.1", "mac": "02:00:00:00:00:01"}],
        )
    )  # fmt: skip
    assert lines[4:] == [
        "neighbour replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent",
        "route replace 10.0.0.1/32 dev eth0 scope link",
        "route replace 0.0.0.0/0 dev eth0 via 10.0.0.1 src 10.0.0.2 scope global metric 7 onlink",
        "route replace ::/0 dev eth0 via fd00::1",
    ]


@pytest.mark.parametrize("name", ["eth0 up", "eth0\nlink del lo", ""])
def test_a_text_that_is_no_word_is_refused(name: str) -> None:
    with pytest.raises(
        InvalidArgument, match="expected text without spaces|expected a name and a mac"
    ):
        write(make_nic(name=name))
