"""A machine whose guest does its worst, with another machine beside it.

`SAMPAN_FUZZ_SECONDS` says for how long (`make fuzz-machine`), `SAMPAN_FUZZ_SEED` with what
random numbers; each round has those that follow.  What breaks a single part is looked for
in tests/fuzz; here it is the whole: jail, shares, tap and vhost-net, KVM.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proto.control import StopReason
from tests.vm.hostile import Attack, Ended, build_guest
from tests.vm.machine import DEADLINE_S, VmmProcess

SECONDS = float(os.environ.get("SAMPAN_FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("SAMPAN_FUZZ_SEED", "1"))
ROUND_S = 10.0
MOST_SHORT_ROUNDS = 6
"""In a slow machine the attack gets more time, until it has reached everything."""
DEVICES = {"sampan-image", "sampan-rootfs", "sampan-volumes", "vsock", "nic0", "balloon"}
OF_VHOST = "nic0"
"""Where the host's kernel serves its queues, the vmm counts no chains."""
SPACES = ("pci-bar", "pci-ecam", "serial", "port 0x", "memory 0x")
FAULT = re.compile(r"sampan-vmm: (\S+): (?:the driver (?:broke|set up)|KVM refused|the device)")
ALARMING = re.compile(r"type=1326|segfault|general protection|BUG:|Oops|WARNING:|hung task")
COUNTING = "n=0; while :; do $b cat /data >/dev/null && n=$((n+1)) && echo n=$n; done\n"


class Neighbour:
    """A machine that counts, reading a file of its share for each number."""

    def __init__(self, vmm: VmmProcess, console: Path) -> None:
        self.vmm = vmm
        self.console = console

    def read_counts(self) -> list[int]:
        text = self.console.read_text(errors="replace")
        return [int(found) for found in re.findall(r"^n=(\d+)\s*$", text, re.MULTILINE)]

    def wait_beyond(self, count: int) -> int:
        deadline = time.monotonic() + DEADLINE_S
        while not (counts := self.read_counts()) or counts[-1] <= count:
            assert time.monotonic() < deadline, self.console.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
        return counts[-1]


@pytest.fixture
def neighbour(make_config, make_root) -> Iterator[Neighbour]:
    root = make_root(COUNTING)
    (root / "data").write_bytes(bytes(100_000))
    config = make_config(root)
    with VmmProcess() as vmm:
        vmm.boot(config)
        found = Neighbour(vmm, Path(config.console_path))
        found.wait_beyond(0)
        yield found


@contextmanager
def kernel_log() -> Iterator[list[str]]:
    """The lines that came inside the block, once it has ended."""
    lines: list[str] = []
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(fd, 0, os.SEEK_END)
        yield lines
        while True:
            try:
                lines.append(os.read(fd, 8192).decode(errors="replace"))
            except BrokenPipeError:  # overtaken by newer lines
                continue
            except BlockingIOError:
                break
    finally:
        os.close(fd)


def check_end(ended: Ended) -> None:
    """The vmm has said why the machine ended, and has ended itself as it was told to."""
    assert ended.status == 0, ended
    assert ended.reason in set(StopReason), ended
    assert ended.detail or ended.reason == StopReason.REQUESTED, ended
    named = [match[1] for line in ended.said if (match := FAULT.match(line))]
    assert len(named) == len(ended.said), ended.said
    assert max(Counter(named).values(), default=0) <= 1, "a device is told of once"


def add_up(rounds: list[Ended]) -> Counter[str]:
    total: Counter[str] = Counter()
    for ended in rounds:
        total.update({f"exits of {k}": n for k, n in ended.counters["exits"].items()})
        for name, count in ended.counters["accesses"].items():
            total[next((s for s in SPACES if name.startswith(s)), name)] += count
        for name, counted in ended.counters["devices"].items():
            for what in ("activations", "chains", "signals", "notify_exits"):
                total[f"{name} {what}"] += counted[what]
        for share, requests in ended.counters["requests"].items():
            total[f"{share} requests"] += sum(requests.values())
            total[f"{share} kinds of request"] = max(
                total[f"{share} kinds of request"], len(requests)
            )
        total["frames that the tap had"] += ended.frames
        total["bytes that streams had"] += ended.stream_bytes
    return total


def list_missed(rounds: list[Ended]) -> list[str]:
    """What the attack is for, and has not reached."""
    total = add_up(rounds)
    wanted = {"exits of io", "exits of mmio", "frames that the tap had", "bytes that streams had"}
    wanted.update(SPACES)
    for device in DEVICES:
        wanted |= {f"{device} activations", f"{device} notify_exits"}
    wanted.update(f"{device} chains" for device in DEVICES - {OF_VHOST})
    missed = [name for name in wanted if total[name] == 0]
    shares = [device for device in DEVICES if device.startswith("sampan-")]
    return missed + [s for s in shares if total[f"{s} kinds of request"] < 2]


def test_a_hostile_guest_harms_neither_its_vmm_nor_the_host_nor_a_neighbour(
    neighbour: Neighbour, tmp_path: Path
) -> None:
    kernel = build_guest(tmp_path)
    mounts = Path("/proc/self/mountinfo").read_text()
    rounds: list[Ended] = []
    end = time.monotonic() + SECONDS
    with kernel_log() as lines:
        while time.monotonic() < end or (list_missed(rounds) and len(rounds) < MOST_SHORT_ROUNDS):
            directory = tmp_path / str(len(rounds))
            before = neighbour.read_counts()[-1]
            rounds.append(Attack(directory, kernel, SEED + len(rounds)).run(ROUND_S))
            check_end(rounds[-1])
            assert not (directory / "sandbox").exists()
            neighbour.wait_beyond(before)
    total = add_up(rounds)
    ends = Counter(ended.reason for ended in rounds)
    print(f"{len(rounds)} machines, seeds from {SEED} on, ended by {dict(ends)}")
    print("\n".join(f"{name}: {count}" for name, count in sorted(total.items())))
    assert list_missed(rounds) == []
    assert [line for line in lines if ALARMING.search(line)] == []
    assert Path("/proc/self/mountinfo").read_text() == mounts
    counts = neighbour.read_counts()
    assert counts == list(range(1, len(counts) + 1))
    assert neighbour.vmm.events == []


@pytest.mark.parametrize(
    ("end", "reasons"),
    [
        (0, {StopReason.POWEROFF}),
        (1, {StopReason.RESET}),
        (2, {StopReason.RESET}),
        (3, {StopReason.TRIPLE_FAULT}),
        (4, {StopReason.KVM_ERROR}),
        (5, {StopReason.POWEROFF, StopReason.RESET}),
    ],
)
def test_one_that_ends_its_machine_is_told_how(
    tmp_path: Path, end: int, reasons: set[StopReason]
) -> None:
    """In the middle of an attack: the second processor goes on with it."""
    kernel = build_guest(tmp_path)
    ended = Attack(tmp_path / "short", kernel, SEED + end, steps=20, end=end).run(DEADLINE_S)
    check_end(ended)
    assert ended.reason in reasons, ended
