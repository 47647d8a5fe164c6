"""A machine is saved once and restored many times: clones share the agent and nothing else."""

import json
import secrets
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proto import contract
from proto.gen.agent.v1 import agent_pb2 as pb
from tests.vm.conftest import MIB
from tests.vm.guest import Guest, make_config
from tests.vm.machine import DEADLINE_S, Refused, VmmProcess

HOST_NAME = "clones-host"
RANDOM = "dd if=/dev/urandom bs=32 count=1 2>/dev/null; cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_template(tmp_path_factory.mktemp("template"), tmp_path_factory.mktemp("origin"))


def save_template(directory: Path, origin: Path, **changes: Any) -> str:
    """Once the agent has answered."""
    with VmmProcess() as vmm:
        guest = Guest(vmm, origin)
        guest.boot(saves=True, **changes)
        guest.close()
        with (
            (directory / contract.MEMORY_FILE).open("xb") as memory,
            (directory / contract.STATE_FILE).open("xb") as state,
        ):
            vmm.request("save", fds=[memory.fileno(), state.fileno()])
    return str(directory)


@contextmanager
def cloned(template: str, directory: Path, **changes: Any) -> Iterator[Guest]:
    directory.mkdir()
    with VmmProcess() as vmm:
        guest = Guest(vmm, directory)
        assert guest.begin(template, **changes)["cloned"]
        guest.faults_at_start = count_faults(vmm.process.pid)
        renew_identity(guest)
        yield guest
        guest.close()


def renew_identity(guest: Guest) -> None:
    guest.wait_agent()
    request = pb.RenewIdentityRequest(
        entropy=secrets.token_bytes(contract.ENTROPY_BYTES),
        realtime_ns=time.time_ns(),
        hostname=HOST_NAME,
    )
    guest.stub.RenewIdentity(request, timeout=DEADLINE_S)


def read_uptime(guest: Guest) -> float:
    guest.make_root("uptime")
    status, output = guest.run("uptime", "cat /proc/uptime")
    assert status == 0
    return float(output.split()[0])


def test_a_clone_runs_containers_with_their_files(template: str, tmp_path: Path) -> None:
    with cloned(template, tmp_path / "clone") as guest:
        root = guest.make_root("run")
        script = "echo hello; echo written > /file; sleep 0.1; exit 7"
        assert guest.run("run", script) == (7, b"hello\n")
        assert (root / "file").read_text() == "written\n"


def test_much_output_comes_through_whole(template: str, tmp_path: Path) -> None:
    """Each device works for long after the restore, not for one request."""
    with cloned(template, tmp_path / "clone") as guest:
        guest.make_root("output")
        status, output = guest.run("output", f"head -c {32 * MIB} /dev/zero")
        assert (status, len(output)) == (0, 32 * MIB)


def test_clones_have_no_random_number_in_common(template: str, tmp_path: Path) -> None:
    outputs = []
    for name in ("one", "two"):
        with cloned(template, tmp_path / name) as guest:
            guest.make_root("random")
            outputs.append(guest.run("random", RANDOM)[1])
    first, second = outputs
    assert len(first) == len(second) > 32
    assert first[:32] != second[:32]
    assert first[32:] != second[32:]


def test_a_clones_kernel_is_told_once_that_it_is_another_machine(
    template: str, tmp_path: Path
) -> None:
    """By the generation's number, before the agent knows; what it does is test_template's."""
    with cloned(template, tmp_path / "clone") as guest:
        guest.make_root("generation")
        _, output = guest.run("generation", "grep ACPI:Ged /proc/interrupts")
        assert [int(word) for word in output.split()[1:2]] == [1]


def test_a_clone_has_the_hosts_time_and_name(template: str, tmp_path: Path) -> None:
    with cloned(template, tmp_path / "clone") as guest:
        guest.make_root("clock")
        before = time.time()
        _, output = guest.run("clock", "date +%s; cat /proc/sys/kernel/hostname")
        seconds, name = output.split()
        assert before - 1 <= int(seconds) <= time.time() + 1
        assert name.decode() == HOST_NAME


def test_two_clones_live_side_by_side_and_change_nothing_of_the_template(
    template: str, tmp_path: Path
) -> None:
    memory = Path(template, "memory").read_bytes()
    with cloned(template, tmp_path / "one") as one, cloned(template, tmp_path / "two") as two:
        for guest, text in ((one, b"one\n"), (two, b"two\n")):
            guest.make_root("same")
            assert guest.run("same", f"echo {text.decode()}") == (0, text)
    assert Path(template, "memory").read_bytes() == memory


def test_a_prewarmed_clone_does_not_notice_that_it_had_to_wait(
    template: str, tmp_path: Path
) -> None:
    """Its clocks stand still, and it runs in its shim's namespaces when it continues."""
    began = time.monotonic()
    with cloned(template, tmp_path / "at-once") as guest:
        uptime = read_uptime(guest)
    took = time.monotonic() - began
    (tmp_path / "held").mkdir()
    log = (tmp_path / "log").open("w")
    with VmmProcess() as vmm, log, Path("/proc/self/ns/net").open() as namespace:
        guest = Guest(vmm, tmp_path / "held")
        assert guest.begin(template, "prewarm") == {}
        with pytest.raises(Refused, match="already booted"):
            guest.vmm.request("prewarm", make_config(tmp_path).to_json())
        time.sleep(2 * took + 10)
        started = time.monotonic()
        fds = [log.fileno(), namespace.fileno()]
        assert vmm.request("start", fds=fds)["cloned"]
        with pytest.raises(Refused, match="not prewarmed"):
            vmm.request("start", fds=fds)
        assert Path(f"/proc/{vmm.process.pid}/fd/2").readlink() == tmp_path / "log"
        renew_identity(guest)
        assert read_uptime(guest) <= uptime + time.monotonic() - started + 1
        guest.close()


def test_what_one_clone_has_touched_the_next_one_finds_ready(template: str, tmp_path: Path) -> None:
    """Fewer than half of the page faults are left, and the container runs as before."""
    faults = []
    for name in ("first", "second"):
        with cloned(template, tmp_path / name) as guest:
            guest.make_root("run")
            assert guest.run("run", "echo hello") == (0, b"hello\n")
            faults.append(count_faults(guest.vmm.process.pid) - guest.faults_at_start)
            if name == "first":
                guest.vmm.request("save_working_set", {"directory": template})
                assert guest.run("run", "echo on") == (0, b"on\n")
    Path(template, "working_set").unlink()
    assert faults[1] < faults[0] / 2, faults


def test_a_clone_has_all_vcpus_of_its_template(tmp_path: Path) -> None:
    for name in ("template", "origin"):
        (tmp_path / name).mkdir()
    template = save_template(tmp_path / "template", tmp_path / "origin", vcpus=2)
    with cloned(template, tmp_path / "clone", vcpus=2) as guest:
        guest.make_root("run")
        assert guest.run("run", "cat /proc/cpuinfo | grep -c ^processor") == (0, b"2\n")


@pytest.mark.parametrize(
    ("damage", "changes"),
    [
        (lambda path: (path / "state.json").write_text("{}"), {}),
        (lambda path: (path / "memory").write_bytes(b""), {}),
        (lambda path: set_tsc_khz(path, 1), {}),
        (lambda path: change_parts(path, lambda parts: parts.pop("share sampan-rootfs")), {}),
        (lambda path: None, {"nics": 2}),
    ],
    ids=["no state", "memory cut off", "another processor", "a share missing", "another machine"],
)
def test_a_template_that_is_no_good_costs_a_boot_and_no_container(
    template: str, tmp_path: Path, damage, changes: dict[str, Any]
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in ("state.json", "memory"):
        (damaged / name).write_bytes(Path(template, name).read_bytes())
    damage(damaged)
    with VmmProcess() as vmm:
        directory = tmp_path / "guest"
        directory.mkdir()
        guest = Guest(vmm, directory)
        assert not guest.begin(str(damaged), **changes)["cloned"]
        guest.close()


def test_a_rate_that_was_measured_a_little_differently_is_no_hindrance(
    template: str, tmp_path: Path
) -> None:
    """As after a reboot of the host: the kernel's calibration of the TSC is not exact."""
    other = tmp_path / "other"
    other.mkdir()
    for name in ("state.json", "memory"):
        (other / name).write_bytes(Path(template, name).read_bytes())
    khz = read_tsc_khz(other)
    set_tsc_khz(other, khz + khz // 10_000)
    with cloned(str(other), tmp_path / "clone") as guest:
        guest.make_root("run")
        assert guest.run("run", "sleep 0.1; echo fine") == (0, b"fine\n")


def count_faults(pid: int) -> int:
    """proc(5), /proc/PID/stat, minflt: KVM's faults on the guest's behalf are among them."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def read_tsc_khz(path: Path) -> int:
    parts = json.loads((path / "state.json").read_text())["parts"]
    return int.from_bytes(a2b_base64(parts["tsc"]["khz"]), "little")


def set_tsc_khz(path: Path, khz: int) -> None:
    encoded = b2a_base64(khz.to_bytes(8, "little"), newline=False).decode()
    change_parts(path, lambda parts: parts["tsc"].update(khz=encoded))


def change_parts(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads((path / "state.json").read_text())
    change(document["parts"])
    (path / "state.json").write_text(json.dumps(document))
