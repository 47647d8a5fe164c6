"""The agent as PID 1 of a real guest: what it sets up, and how it reports what fails.

One machine with the guest image for the module.  A container's life in detail
is in tests/integration/test_agent_*.py, where the same agent runs without one.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from proto import contract
from proto.gen.agent.v1 import agent_pb2 as pb
from tests.vm.conftest import IMAGE, MIB
from tests.vm.guest import Guest, make_config
from tests.vm.machine import DEADLINE_S, VmmProcess

CLOCK_ERROR_NS = 1_000_000


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with VmmProcess() as vmm:
        guest = Guest(vmm, tmp_path_factory.mktemp("guest"))
        guest.boot()
        yield guest
        guest.close()


def test_the_agent_tells_what_it_runs_on(guest: Guest) -> None:
    info = guest.stub.GetInfo(pb.GetInfoRequest())
    manifest = json.loads((IMAGE / "manifest.json").read_text())
    assert info.protocol_version == contract.PROTOCOL_VERSION
    assert info.kernel_release == manifest["kernel_release"]
    assert 0 < info.init_started_ns < info.listening_ns
    print(f"init {info.init_started_ns / 1e6:.0f} ms, listening {info.listening_ns / 1e6:.0f} ms")


def test_a_container_runs_from_the_shared_root(guest: Guest) -> None:
    root = guest.make_root("run")
    assert guest.run("run", "echo hello; echo written > /file; exit 7") == (7, b"hello\n")
    assert (root / "file").read_text() == "written\n"


@pytest.mark.parametrize("size", [100_000, 32 * MIB])
def test_all_of_the_output_arrives(guest: Guest, size: int) -> None:
    name = f"output-{size}"
    guest.make_root(name)
    status, output = guest.run(name, f"head -c {size} /dev/zero")
    assert (status, len(output)) == (0, size)


# dd asks for its memory within one system call: nothing but that stands in its way.
@pytest.mark.parametrize(
    "script",
    ["dd if=/dev/zero of=/dev/null bs=100M count=1", "head -c 100000000 /dev/zero | tail"],
    ids=["at once", "while it has no room for its own program any more"],
)
def test_containers_have_their_limits_and_an_out_of_memory_kill_is_reported(
    guest: Guest, script: str
) -> None:
    name = script.split(maxsplit=1)[0]
    guest.make_root(name)
    events = guest.stub.WatchEvents(pb.WatchEventsRequest(), timeout=DEADLINE_S)
    guest.create(name, f"{script}; echo over", limit=32 * MIB, swap=32 * MIB).close()
    files = guest.stub.GetStats(pb.ContainerRef(container_id=name)).files
    assert files["memory.max"].values[""] == 32 * MIB
    assert {"cpu.stat", "pids.current", "io.stat"} <= set(files)
    ref = pb.ProcessRef(container_id=name)
    guest.stub.StartProcess(ref, timeout=DEADLINE_S)
    event = next(iter(events))
    assert (event.container_id, event.out_of_memory.oom_kills) == (name, 1)
    events.cancel()
    guest.stub.WaitProcess(ref, timeout=DEADLINE_S)
    guest.stub.DeleteProcess(ref, timeout=DEADLINE_S)


def test_a_container_sees_a_network_with_lo_up(guest: Guest) -> None:
    guest.make_root("network")
    _, output = guest.run("network", "cat /proc/net/fib_trie")
    assert b"127.0.0.1" in output


def test_the_clock_is_the_hosts(guest: Guest) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not (read := guest.stub.ReadClock(pb.ReadClockRequest())).kept:
        assert read.realtime_ns > 0
        assert time.monotonic() < deadline, "KVM tells no time: is the TSC this host's clock?"
        time.sleep(1)
    before_ns = time.time_ns()
    guest_ns = guest.stub.ReadClock(pb.ReadClockRequest()).realtime_ns
    assert before_ns - CLOCK_ERROR_NS < guest_ns < time.time_ns() + CLOCK_ERROR_NS


def test_the_clock_can_be_adjusted(guest: Guest) -> None:
    slow = pb.CorrectClockRequest(offset_ns=5_000, error_ns=1_000, time_constant=8)
    guest.stub.CorrectClock(slow)
    guest.make_root("led")
    _, output = guest.run("led", "adjtimex")
    assert b"PLL" in output, output
    guest.stub.CorrectClock(pb.CorrectClockRequest(offset_ns=5_000, step=True))
    with pytest.raises(grpc.RpcError, match="offset_ns"):
        guest.stub.CorrectClock(pb.CorrectClockRequest(offset_ns=10**12))


def test_what_cannot_be_set_up_is_the_consoles_last_line(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    shares = tuple(share for share in config.shares if share.tag == contract.IMAGE_TAG)
    lame = config._replace(shares=shares, ports=())
    with VmmProcess() as vmm:
        vmm.boot(lame)
        assert vmm.wait_event("stopped")["reason"] == "reset"
    lines = (tmp_path / "console").read_text(errors="replace").splitlines()
    (said,) = [line for line in lines if "sampan-agent: " in line]
    assert "the agent ends and stops the machine: " in said
    assert contract.GUEST_ROOTFS_DIR in said
