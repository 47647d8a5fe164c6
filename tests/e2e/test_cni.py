"""Networks that CNI's plugins make are the guest's, whatever kind of link they use."""

import csv
import hashlib
import json
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.containerd import wait_for
from tests.e2e.ctr import DEBIAN, TIMEOUT_S, Ctr
from tests.e2e.network import CniNetwork, Plugin, attached, fetch, run, run_ip

BRIDGE = "sampan-cni0"
MASTER, PEER = "sampan-m0", "sampan-m1"
PORT = 8088
ADDRESS = "10.99.0.1"
"""Of the host, on a link of its own."""
Attach = Callable[..., list[str]]


def pool(directory: Path, *subnets: str) -> Plugin:
    """Addresses from these, and a default route."""
    targets = ["::/0" if ":" in subnet else "0.0.0.0/0" for subnet in subnets]
    return {
        "type": "host-local",
        "dataDir": str(directory),
        "ranges": [[{"subnet": subnet}] for subnet in subnets],
        "routes": [{"dst": target} for target in targets],
    }


@dataclass(frozen=True)
class Kind:
    """A first plugin, its subnet and who answers there."""

    plugin: Plugin
    subnet: str
    peer: str
    after: tuple[Plugin, ...] = ()
    mtu: int = 1500


GATEWAY = {"type": "bridge", "bridge": BRIDGE, "isGateway": True}
KINDS = {
    "bridge": Kind(GATEWAY, "10.91.0.0/24", "10.91.0.1"),
    "bridge, IPv6": Kind(GATEWAY, "fd91::/64", "fd91::1"),
    "bridge, MTU 9000": Kind({**GATEWAY, "mtu": 9000}, "10.91.0.0/24", "10.91.0.1", mtu=9000),
    "bridge, firewall, bandwidth": Kind(
        GATEWAY,
        "10.91.0.0/24",
        "10.91.0.1",
        (
            {"type": "firewall"},
            {
                "type": "bandwidth",
                "ingressRate": 1 << 30,
                "ingressBurst": 1 << 30,
                "egressRate": 1 << 30,
                "egressBurst": 1 << 30,
            },
        ),
    ),
    "ptp": Kind({"type": "ptp"}, "10.91.0.0/24", "10.91.0.1"),
    "macvlan": Kind({"type": "macvlan", "master": MASTER}, "10.91.0.0/24", "10.91.0.200"),
    "ipvlan": Kind({"type": "ipvlan", "master": MASTER}, "10.91.0.0/24", "10.91.0.200"),
}


@pytest.fixture
def attach(tmp_path: Path) -> Iterator[Attach]:
    """attach(namespace, networks): its addresses.  At the end all of it goes again."""
    with ExitStack() as stack:
        stack.callback(remove_links)
        yield lambda *arguments: stack.enter_context(attached(*arguments))


def remove_links() -> None:
    for name in (BRIDGE, MASTER, "sampan-host"):
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


def make_master() -> None:
    """A link for macvlan and ipvlan, and the host on its other end."""
    run_ip(
        f"link add {MASTER} type veth peer name {PEER}",
        f"link set {MASTER} up",
        f"link set {PEER} up",
        f"addr add 10.91.0.200/24 dev {PEER}",
    )


def inside(namespace: str) -> tuple[str, str]:
    return "--with-ns", f"network:/run/netns/{namespace}"


def serve(ctr: Ctr, namespace: str) -> str:
    return ctr.start("httpd", "-f", "-p", "80", "-h", "/etc", flags=inside(namespace))


def read_served(ctr: Ctr, name: str) -> str:
    return hashlib.sha256(ctr.exec(name, "cat", "/etc/passwd").stdout.encode()).hexdigest()


def in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_network_of_a_plugin_is_the_guest_s(
    ctr: Ctr, attach: Attach, tmp_path: Path, kind: Kind
) -> None:
    """Both sides reach each other, with packets of the largest size."""
    if "master" in kind.plugin:
        make_master()
    plugin = {**kind.plugin, "ipam": pool(tmp_path, kind.subnet)}
    (address,) = attach("sampan-a", [CniNetwork("sampan-net", [plugin, *kind.after])])
    before = run("ip", "-n", "sampan-a", "-o", "link")
    name = serve(ctr, "sampan-a")
    shown = ctr.shell(
        name, f"cat /sys/class/net/eth0/mtu; ping -c 1 -W 60 -s {kind.mtu - 100} {kind.peer}"
    )
    assert shown.status == 0, shown
    assert shown.stdout.startswith(f"{kind.mtu}\n"), shown
    assert fetch(f"http://{in_url(address)}/passwd") == read_served(ctr, name)
    ctr.remove(name)
    assert run("ip", "-n", "sampan-a", "-o", "link") == before


def test_a_published_port_of_the_host_reaches_a_server_in_the_guest(
    ctr: Ctr, attach: Attach, tmp_path: Path
) -> None:
    run_ip("link add sampan-host type dummy", "link set sampan-host up")
    run_ip(f"addr add {ADDRESS}/32 dev sampan-host")
    mapping = {"hostPort": PORT, "containerPort": 80, "protocol": "tcp"}
    plugins = [
        {**GATEWAY, "ipMasq": True, "ipam": pool(tmp_path, "10.91.0.0/24")},
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ]
    attach("sampan-a", [CniNetwork("ports", plugins, runtime={"portMappings": [mapping]})])
    name = serve(ctr, "sampan-a")
    assert fetch(f"http://{ADDRESS}:{PORT}/passwd") == read_served(ctr, name)


def test_a_container_on_two_networks_is_reached_by_both(
    ctr: Ctr, attach: Attach, tmp_path: Path
) -> None:
    first = {**GATEWAY, "ipam": pool(tmp_path / "a", "10.91.0.0/24", "fd91::/64")}
    second = {"type": "ptp", "ipam": {**pool(tmp_path / "b", "10.92.0.0/24"), "routes": []}}
    networks = [CniNetwork("first", [first]), CniNetwork("second", [second], "eth1")]
    addresses = attach("sampan-a", networks)
    assert len(addresses) == 3
    name = serve(ctr, "sampan-a")
    served = read_served(ctr, name)
    for address in addresses:
        assert fetch(f"http://{in_url(address)}/passwd") == served
    for gateway in ("10.91.0.1", "fd91::1", "10.92.0.1"):
        assert ctr.exec(name, "ping", "-c", "1", "-W", "60", gateway).status == 0


def test_a_container_reaches_another_through_the_bridge(
    ctr: Ctr, attach: Attach, tmp_path: Path
) -> None:
    network = CniNetwork("shared", [{**GATEWAY, "ipam": pool(tmp_path, "10.91.0.0/24")}])
    (address,) = attach("sampan-a", [network])
    attach("sampan-b", [network])
    server = serve(ctr, "sampan-a")
    client = ctr.start("sleep", "100000", flags=inside("sampan-b"))
    got = ctr.shell(client, f"wget -q -T 60 -O - http://{address}/passwd | sha256sum")
    assert got.stdout.split()[:1] == [read_served(ctr, server)], got


def test_a_name_is_resolved_by_the_server_of_resolv_conf(
    ctr: Ctr, attach: Attach, tmp_path: Path
) -> None:
    network = CniNetwork("names", [{**GATEWAY, "ipam": pool(tmp_path / "ipam", "10.91.0.0/24")}])
    attach("sampan-a", [network])
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 10.91.0.1\n")
    mount = f"type=bind,src={resolv},dst=/etc/resolv.conf,options=rbind:ro"
    name = ctr.start("sleep", "100000", flags=("--mount", mount, *inside("sampan-a")))
    with answering("10.91.0.1", "10.91.0.77"):
        asked = ctr.exec(name, "nslookup", "-type=a", "boat.example.")
    assert "Address: 10.91.0.77" in asked.stdout, asked


@contextmanager
def answering(address: str, answer: str) -> Iterator[None]:
    """A name server that has one answer to every question (RFC 1035 §4.1)."""
    ended = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        server.settimeout(0.2)
        thread = threading.Thread(target=answer_all, args=(server, answer, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def answer_all(server: socket.socket, answer: str, ended: threading.Event) -> None:
    while not ended.is_set():
        with suppress(TimeoutError):
            query, sender = server.recvfrom(512)
            question = query[12 : query.index(0, 12) + 5]
            header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
            record = struct.pack(">HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(answer)
            server.sendto(header + question + record, sender)


def test_a_redis_answers_a_load_generator_on_the_host(
    ctr: Ctr, attach: Attach, tmp_path: Path
) -> None:
    network = CniNetwork("load", [{**GATEWAY, "ipam": pool(tmp_path, "10.91.0.0/24")}])
    (address,) = attach("sampan-a", [network])
    server = ("redis-server", "--protected-mode", "no", "--save", "")
    ctr.start(*server, image=DEBIAN, flags=inside("sampan-a"))
    wait_for(lambda: ask_redis(address, "-n", "1", "-t", "ping_mbulk") != [], "redis listens")
    load = ("-n", "3000", "-c", "20", "-d", "1000", "-t", "set,get")
    assert [row["test"] for row in ask_redis(address, *load)] == ["SET", "GET"]
    assert ask_redis(address, "-k", "0", "-n", "300", "-c", "8", "-t", "ping_mbulk") != []


def ask_redis(address: str, *load: str) -> list[dict[str, str]]:
    """redis-benchmark's rows; none when a request failed."""
    command = ["redis-benchmark", "-h", address, "--csv", *load]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return list(csv.DictReader(done.stdout.splitlines())) if done.returncode == 0 else []


def test_a_machine_of_two_vcpus_has_two_pairs_of_queues(
    ctr: Ctr, attach: Attach, tmp_path: Path
) -> None:
    """Boots with two, of which an emulated host lets about one in a hundred panic."""
    network = CniNetwork("pairs", [{**GATEWAY, "ipam": pool(tmp_path, "10.91.0.0/24")}])
    (address,) = attach("sampan-a", [network])
    two = ("--annotation", "dev.sampan.vcpus=2")
    name = ctr.start("httpd", "-f", "-p", "80", "-h", "/etc", flags=(*two, *inside("sampan-a")))
    shown = ctr.shell(name, "ls /sys/class/net/eth0/queues")
    assert shown.stdout.split() == ["rx-0", "rx-1", "tx-0", "tx-1"], shown
    assert fetch(f"http://{address}/passwd") == read_served(ctr, name)


@pytest.mark.slow
@pytest.mark.usefixtures("attach")
def test_two_hundred_containers_leave_links_qdiscs_and_namespaces_as_they_were(
    ctr: Ctr, tmp_path: Path
) -> None:
    network = CniNetwork("rounds", [{**GATEWAY, "ipam": pool(tmp_path, "10.91.0.0/24")}])
    with attached("sampan-a", [network]):
        pass  # the first makes the bridge, which stays
    before = describe_host()
    for number in range(200):
        with attached("sampan-a", [network]):
            done = ctr.run("true", flags=inside("sampan-a"))
        assert done.status == 0, (number, done)
    assert describe_host() == before


def describe_host() -> str:
    """Not whether a bridge has a carrier: that follows its last port within a second or so."""
    links = json.loads(run("ip", "-j", "link"))
    names = [(link["ifindex"], link["ifname"], link["mtu"], link["qdisc"]) for link in links]
    return f"{names}\n" + run("tc", "qdisc") + run("ip", "netns")
