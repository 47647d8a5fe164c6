"""`python3 -m benchmarks.network`: containers on one bridge of the host, measured from
the host.

sampan, sampan without vhost-net and runc in turn: throughput (iperf3), packets a
second, latency and connections (a redis in the container, redis-benchmark on the
host), the host's processor time for a GiB, and exits to user space.  Prints Markdown.
"""

import argparse
import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.ctr import Runtime, running
from benchmarks.measures import Found, Metric
from benchmarks.report import render_markdown
from benchmarks.rounds import begin_figures, measure_rounds, save
from benchmarks.runtimes import RUNC, SAMPAN, make_sampan, make_template
from benchmarks.usage import Usage, read_usage
from tests.e2e.network import made_namespace, run_ip

IMAGE: Final = "localhost/sampan/debian:1"
BRIDGE: Final = "bench-br0"
NAMESPACE: Final = "bench-inside"
GATEWAY: Final = "10.98.0.1"
ADDRESS: Final = "10.98.0.2"
GIB: Final = 1 << 30
STREAMS: Final = (1, 4)
DATAGRAM_BYTES: Final = 64
TIMEOUT_S: Final = 300

METRICS: Final[dict[str, Metric]] = {
    **{
        f"tcp_{way}_{streams}_mib_s": Metric(
            f"TCP {way} the container, {streams} at once", "MiB/s", more_is_better=True
        )
        for way in ("to", "from")
        for streams in STREAMS
    },
    "tcp_to_cpu_s": Metric("processor time of the host for a GiB to it", "s"),
    "tcp_from_cpu_s": Metric("processor time of the host for a GiB from it", "s"),
    "tcp_to_exits": Metric("exits to the vmm for 1000 packets", "exits", is_count=True),
    "udp_to_packets_s": Metric(
        f"UDP of {DATAGRAM_BYTES} bytes to the container", "packets/s", more_is_better=True
    ),
    "get_p50_ms": Metric("request to a redis, p50", "ms"),
    "get_p99_ms": Metric("request to a redis, p99", "ms"),
    "connections_s": Metric("connections to it", "1/s", more_is_better=True),
}


@dataclass(frozen=True, slots=True)
class Settings:
    image: str
    seconds: int
    requests: int


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    settings = Settings(IMAGE, options.seconds, options.requests)
    make_template()
    with TemporaryDirectory() as directory:
        runtimes = (
            Runtime("sampan", SAMPAN),
            make_sampan("sampan-no-vhost", Path(directory), vhost_net="never"),
            Runtime("runc", RUNC),
        )
        figures = begin_figures(runtimes, options.rounds, settings)
        with made_bridge():
            measures = (measure_iperf, measure_redis)
            measure_rounds(figures, runtimes, measures, settings, options.rounds)
    if options.json:
        save(figures, options.json)
    print(render_markdown(figures, METRICS), end="")
    return 1 if figures.failures else 0


def parse_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.network", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="for each of iperf3's runs")
    parser.add_argument("--requests", type=int, default=5000, help="to a redis")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args(arguments)


# --- the wires -----------------------------------------------------------------


@contextmanager
def made_bridge() -> Iterator[None]:
    run_ip(
        f"link add {BRIDGE} type bridge",
        f"addr add {GATEWAY}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )
    try:
        yield
    finally:
        run_ip(f"link delete {BRIDGE}")


@contextmanager
def joined(runtime: Runtime, settings: Settings, *command: str) -> Iterator[None]:
    """A container whose veth is a port of the bridge, as CNI's bridge plugin makes it."""
    with made_namespace(NAMESPACE):
        run_ip(
            f"-n {NAMESPACE} link add eth0 type veth peer name bench-veth0",
            f"-n {NAMESPACE} link set bench-veth0 netns {os.getpid()}",
            f"link set bench-veth0 master {BRIDGE} up",
            f"-n {NAMESPACE} addr add {ADDRESS}/24 dev eth0",
            f"-n {NAMESPACE} link set eth0 up",
        )
        inside = ("--with-ns", f"network:/run/netns/{NAMESPACE}")
        with running(runtime.with_flags(*inside), settings.image, *command):
            yield


# --- the measures --------------------------------------------------------------


def measure_iperf(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    with joined(runtime, settings, "iperf3", "--server"):
        await_port(5201)
        for way, reverse in (("to", ()), ("from", ("--reverse",))):
            for streams in STREAMS:
                before = read_usage(NAMESPACE)
                ended = run_iperf(settings, "--parallel", str(streams), *reverse)
                used = read_usage(NAMESPACE) - before
                moved = ended["sum_received"]
                name = f"tcp_{way}_{streams}_mib_s"
                yield Found({name: moved["bits_per_second"] / 8 / (1 << 20)})
            yield Found(describe_usage(way, used, moved["bytes"]))
        flood = ("--udp", "--bitrate", "0", "--length", str(DATAGRAM_BYTES))
        ended = run_iperf(settings, *flood)["sum"]
        arrived = ended["packets"] - ended["lost_packets"]
        yield Found({"udp_to_packets_s": arrived / ended["seconds"]})


def describe_usage(way: str, used: Usage, moved_bytes: int) -> dict[str, float]:
    found = {f"tcp_{way}_cpu_s": used.cpu_s * GIB / moved_bytes}
    if used.exits is not None and way == "to":
        found["tcp_to_exits"] = used.exits * 1000 / used.packets
    return found


def run_iperf(settings: Settings, *options: str) -> dict[str, Any]:
    command = ["iperf3", "--client", ADDRESS, "--json", "--time", str(settings.seconds), *options]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    if "error" in document:
        raise ValueError(f"{' '.join(command)}: {document['error']}")
    ended: dict[str, Any] = document["end"]
    return ended


def measure_redis(runtime: Runtime, settings: Settings) -> Iterator[Found]:
    server = ("redis-server", "--protected-mode", "no", "--save", "", "--port", "6379")
    with joined(runtime, settings, *server):
        await_port(6379)
        one = run_redis(settings.requests, "-c", "1", "-t", "get")
        yield Found(
            {
                "get_p50_ms": float(one["p50_latency_ms"]),
                "get_p99_ms": float(one["p99_latency_ms"]),
            }
        )
        fresh = run_redis(settings.requests // 5, "-k", "0", "-c", "8", "-t", "ping_mbulk")
        yield Found({"connections_s": float(fresh["rps"])})


def run_redis(requests: int, *options: str) -> dict[str, str]:
    command = ["redis-benchmark", "-h", ADDRESS, "--csv", "-n", str(requests), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    (row,) = csv.DictReader(done.stdout.splitlines())
    return row


def await_port(port: int) -> None:
    """Waits until the container's server listens."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            socket.create_connection((ADDRESS, port), timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
        else:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
