"""When a container at its memory limit counts as making no progress, and how its limit is lowered.

The figures of such a container were read in a guest: `head -c 100000000 /dev/zero | tail` in 32
MiB.
"""

import asyncio
from pathlib import Path

import pytest

from agent.cgroup import Cgroup
from agent.thrash import (
    MARGIN_BYTES,
    MIN_THRASH_S,
    SAMPLE_PERIOD_S,
    Sample,
    ThrashWatch,
    is_thrashing,
    plan_lower_limit,
)

MIB = 1 << 20
BEFORE = Sample(0.0, 131072, refaults=16903, major_faults=603, faults=8845)
STILL = Sample(2.0, 69632, refaults=25624, major_faults=876, faults=9118)


def test_a_container_that_only_reads_its_program_again_stands_still() -> None:
    assert is_thrashing(BEFORE, STILL)


@pytest.mark.parametrize(
    ("what", "now"),
    [
        ("it gets memory", STILL._replace(faults=STILL.faults + 200)),
        ("it has a cache to live on", STILL._replace(cache_bytes=4 * MIB)),
        ("it re-reads a file by read(2)", STILL._replace(major_faults=BEFORE.major_faults + 3)),
        ("little was read again", STILL._replace(refaults=BEFORE.refaults + 100)),
        ("it was away from its limit", STILL._replace(time_s=4.0)),
        ("nothing happens", BEFORE._replace(time_s=2.0)),
    ],
)
def test_a_container_that_moves_does_not(what: str, now: Sample) -> None:
    assert not is_thrashing(BEFORE, now), what


def test_the_lower_limit_is_below_what_cannot_be_dropped() -> None:
    stats = {"memory.max": {"": 32 * MIB}, "memory.current": {"": 32 * MIB - 4096}}
    now = Sample(0.0, 131072, 0, 0, 0)
    assert plan_lower_limit(stats, now) == (32 * MIB, 32 * MIB - 4096 - 131072 - MARGIN_BYTES)


def test_a_container_below_its_limit_is_not_squeezed() -> None:
    """The guest itself has no memory left: the kernel handles that."""
    stats = {"memory.max": {"": 512 * MIB}, "memory.current": {"": 100 * MIB}}
    assert plan_lower_limit(stats, BEFORE) is None


class FakeCgroup:
    """Files of a cgroup as plain files."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "c1"
        self.directory.mkdir()
        self.cgroup = Cgroup(str(root), "/c1")
        self.write("memory.max", str(32 * MIB))
        self.write("memory.current", str(32 * MIB))
        self.faults = 0
        self.fault(0, 0)

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def read_limit(self) -> int:
        return int((self.directory / "memory.max").read_text())

    def fault(self, major: int, refaults: int) -> None:
        self.faults += major
        stat = {
            "file": 131072,
            "shmem": 0,
            "workingset_refault_file": self.faults * 32 + refaults,
            "pgmajfault": self.faults,
            "pgfault": self.faults,
        }
        text = "".join(f"{key} {value}\n" for key, value in stat.items())
        self.write("memory.stat", text)


async def settle() -> None:
    for _ in range(200):
        await asyncio.sleep(0.001)


@pytest.fixture
def fake(tmp_path: Path) -> FakeCgroup:
    return FakeCgroup(tmp_path)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The values written to memory.max, in order."""
    written: list[int] = []

    def write(path: str, text: str) -> None:
        written.append(int(text))
        Path(path).write_text(text)

    monkeypatch.setattr("agent.thrash.write_file", write)
    return written


async def test_thrashing_that_lasts_is_ended_and_the_limit_restored(
    fake: FakeCgroup, limits: list[int]
) -> None:
    watch = ThrashWatch(fake.cgroup)
    for second in range(int(MIN_THRASH_S) + 2):
        watch.sample(second * SAMPLE_PERIOD_S)
        fake.fault(100, 0)
    await settle()
    assert limits == [32 * MIB - 131072 - MARGIN_BYTES, 32 * MIB]


async def test_a_pause_in_the_thrashing_starts_the_count_again(
    fake: FakeCgroup, limits: list[int]
) -> None:
    watch = ThrashWatch(fake.cgroup)
    for second in (0, 1, 2, 3, 4, 40, 41, 42, 43, 44):
        watch.sample(float(second))
        fake.fault(100, 0)
    await settle()
    assert limits == []


async def test_a_limit_that_is_updated_meanwhile_stays(
    fake: FakeCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "agent.thrash.write_file", lambda path, _: Path(path).write_text(str(64 * MIB))
    )
    watch = ThrashWatch(fake.cgroup)
    for second in range(int(MIN_THRASH_S) + 2):
        watch.sample(second * SAMPLE_PERIOD_S)
        fake.fault(100, 0)
    await settle()
    assert fake.read_limit() == 64 * MIB


async def test_a_cgroup_that_is_gone_is_no_error(tmp_path: Path) -> None:
    watch = ThrashWatch(Cgroup(str(tmp_path), "/none"))
    watch.sample(0.0)
    watch.sample(2.0)
