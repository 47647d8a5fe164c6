"""A container's network: what is in its namespace is the guest's, and packets pass."""

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Configure
from tests.e2e.containerd import wait_for
from tests.e2e.ctr import TIMEOUT_S, Ctr
from tests.e2e.host import find_pid, walk_processes
from tests.e2e.network import fetch, run

INSIDE, OUTSIDE = "sampan-inside", "sampan-outside"
BRIDGE = "sampan-br0"
CNI_CONFIG = {
    "cniVersion": "0.4.0",
    "name": "sampan-test",
    "plugins": [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/sampan-test-ipam",
                "subnet": "10.88.0.0/24",
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}
DEFAULT_CNI_PLUGINS = Path("/opt/cni/bin")
DEBIAN_CNI_PLUGINS = Path("/usr/lib/cni")
BIG = 4 << 20


@pytest.fixture
def namespaces() -> Iterator[None]:
    """Two, joined by a veth; the container's has addresses, a default route and an odd MTU."""
    for name in (INSIDE, OUTSIDE):
        run("ip", "netns", "add", name)
    try:
        run("ip", "-n", INSIDE, *"link add eth0 mtu 1450 type veth peer name far mtu 1450".split())
        run("ip", "-n", INSIDE, "link", "set", "far", "netns", OUTSIDE)
        for line in (
            f"-n {INSIDE} addr add 10.77.0.2/24 dev eth0",
            f"-n {INSIDE} -6 addr add fd77::2/64 dev eth0 nodad",
            f"-n {INSIDE} link set eth0 up",
            f"-n {INSIDE} route add default via 10.77.0.1",
            f"-n {OUTSIDE} addr add 10.77.0.1/24 dev far",
            f"-n {OUTSIDE} -6 addr add fd77::1/64 dev far nodad",
            f"-n {OUTSIDE} link set far up",
        ):
            run("ip", *line.split())
        yield
    finally:
        for name in (INSIDE, OUTSIDE):
            run("ip", "netns", "delete", name)


@pytest.fixture
def cni() -> Iterator[None]:
    """Debian's plugins where ctr looks for them, and one bridge network."""
    DEFAULT_CNI_PLUGINS.parent.mkdir(parents=True, exist_ok=True)
    if not DEFAULT_CNI_PLUGINS.exists():
        DEFAULT_CNI_PLUGINS.symlink_to(DEBIAN_CNI_PLUGINS)
    config = Path("/etc/cni/net.d/10-sampan-test.conflist")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(CNI_CONFIG))
    yield
    config.unlink()
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)


def describe_namespace() -> str:
    """Links, queueing disciplines and filters: what a container must leave as it was."""
    return "\n".join(
        (
            run("ip", "-n", INSIDE, "-o", "link"),
            run("tc", "-n", INSIDE, "qdisc"),
            run("tc", "-n", INSIDE, "filter", "show", "dev", "eth0", "ingress"),
        )
    )


def is_served_by_vhost(pid: int) -> bool:
    """By a thread of the kernel's, the process's own or (before Linux 6.4) not, that is named
    after the one that it works for."""
    threads = {path.name: path for path in Path(f"/proc/{pid}/task").iterdir()}
    names = [read_name(path) for path in threads.values()] + walk_processes(read_name)
    return any(f"vhost-{number}" in names for number in threads)


def read_name(directory: Path) -> str:
    return (directory / "comm").read_text().strip()


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("vhost_net", ["auto", "never"])
def test_the_guest_has_the_network_of_the_namespace(
    ctr: Ctr, tmp_path: Path, configure: Configure, vhost_net: str
) -> None:
    """Packets are moved by the host's kernel, or by the vmm."""
    configure(vhost_net=vhost_net)
    before = describe_namespace()
    inside = f"network:/run/netns/{INSIDE}"
    name = ctr.start("httpd", "-f", "-p", "80", "-h", "/tmp", flags=("--with-ns", inside))
    assert is_served_by_vhost(find_pid("sampan-vmm")) == (vhost_net == "auto")
    shown = ctr.shell(name, "ip -o addr show dev eth0; ip route; cat /sys/class/net/eth0/mtu")
    for text in ("10.77.0.2/24", "fd77::2/64", "default via 10.77.0.1 dev eth0", "1450"):
        assert text in shown.stdout, shown
    assert ctr.exec(name, "ping", "-c", "1", "-W", "60", "10.77.0.1").status == 0
    assert ctr.exec(name, "ping", "-c", "1", "-W", "60", "fd77::1").status == 0
    made = ctr.shell(name, f"head -c {BIG} /dev/urandom > /tmp/big; sha256sum < /tmp/big")
    assert fetch("http://10.77.0.2/big", OUTSIDE) == made.stdout.split()[0]
    (tmp_path / "up").write_bytes(bytes(range(256)) * (BIG // 256))
    server = subprocess.Popen(
        ["ip", "netns", "exec", OUTSIDE, "python3", "-m", "http.server", "-d", str(tmp_path), "81"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        get = "wget -q -T 60 -O /tmp/up http://10.77.0.1:81/up"
        fetched = ctr.shell(name, f"for i in $(seq 50); do {get} && break; done; sha256sum /tmp/up")
    finally:
        server.terminate()
        server.wait()
    expected = hashlib.sha256((tmp_path / "up").read_bytes()).hexdigest()
    assert fetched.stdout.split()[:1] == [expected], fetched
    ctr.remove(name)
    assert describe_namespace() == before


@pytest.mark.usefixtures("namespaces")
def test_localhost_of_the_namespace_is_the_guests(ctr: Ctr) -> None:
    """As Kubernetes' port-forward has it: a server that listens on 127.0.0.1 alone."""
    run("ip", "-n", INSIDE, "link", "set", "lo", "up")
    name = ctr.start(
        *("httpd", "-f", "-p", "127.0.0.1:80", "-h", "/etc"),
        flags=("--with-ns", f"network:/run/netns/{INSIDE}"),
    )
    expected = hashlib.sha256(ctr.exec(name, "cat", "/etc/passwd").stdout.encode()).hexdigest()
    for host in ("127.0.0.1", "[::1]", "localhost"):
        assert fetch(f"http://{host}/passwd", INSIDE) == expected
    with pytest.raises(subprocess.CalledProcessError):
        fetch("http://127.0.0.1:81/", INSIDE)
    assert ctr.exec(name, "echo", "fine").stdout == "fine\n"
    ctr.remove(name)


@pytest.mark.usefixtures("namespaces")
def test_a_killed_shim_leaves_the_namespace_as_it_was(ctr: Ctr) -> None:
    before = describe_namespace()
    name, process = ctr.popen(
        "sh", "-c", "echo up; sleep 1000", flags=("--with-ns", f"network:/run/netns/{INSIDE}")
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert describe_namespace() != before
    os.kill(find_pid("sampan-shim"), signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    ctr.remove(name)
    # containerd runs `delete` by itself, and nobody is told when it has ended.
    wait_for(lambda: describe_namespace() == before, "the namespace is as it was")


@pytest.mark.usefixtures("cni")
def test_a_bridge_network_of_cni_reaches_the_guest(ctr: Ctr) -> None:
    """CNI wires `/proc/<pid of the task>/ns/net` between Create and Start."""
    name = ctr.start("httpd", "-f", "-p", "80", "-h", "/etc", flags=("--cni",))
    shown = ctr.shell(name, "ip -o -4 addr show dev eth0; ping -c 1 -W 60 10.88.0.1")
    assert shown.status == 0, shown
    address = shown.stdout.split("inet ")[1].split("/")[0]
    expected = hashlib.sha256(ctr.exec(name, "cat", "/etc/passwd").stdout.encode()).hexdigest()
    assert fetch(f"http://{address}/passwd") == expected
    ctr.remove(name)
