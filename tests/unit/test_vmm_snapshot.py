"""A snapshot is restored unchanged, and nothing else is accepted as one."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from native.ffi import ffi
from shim.errors import HostResource
from shim.vmm.address_map import MIB, PAGE_BYTES, Gpa, Range
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.memory_image import CHUNK_BYTES
from shim.vmm.kvm.working_set import (
    PageWatch,
    TouchedPages,
    find_working_set,
    group_pages,
    pack_working_set,
    prefault,
)
from shim.vmm.snapshot import MachineState, Snapshot, write_snapshot, write_working_set

LOW = Range(Gpa(0), 4 * MIB)
HIGH = Range(Gpa(64 * MIB), 2 * MIB + PAGE_BYTES)
STATE = {
    "vm": {"clock": b"\x01\x00"},
    "vcpus": {"0.regs": bytes(range(256)), "1.regs": b""},
    "console": {"registers": b"serial"},
    "pci": {"second": b"2", "first": b"1"},
    "share tag": {"session": b"\xff\n"},
    "balloon": {},
}


@pytest.fixture
def rams() -> Iterator[tuple[GuestRam, GuestRam]]:
    first, second = GuestRam((LOW, HIGH)), GuestRam((LOW, HIGH))
    yield first, second
    second.close()
    first.close()


@pytest.fixture
def pagemap() -> Iterator[int]:
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    yield fd
    os.close(fd)


def save(directory: Path, state: MachineState, ram: GuestRam) -> None:
    with (
        (directory / "memory").open("xb") as memory,
        (directory / "state.json").open("xb") as file,
        open("/proc/self/pagemap", "rb") as pages,
    ):
        write_snapshot(memory.fileno(), file.fileno(), state, ram, pages.fileno())


def touch(directory: Path, touched: list[TouchedPages]) -> None:
    with (directory / "working_set").open("xb") as file:
        write_working_set(file.fileno(), touched)


def put_back(directory: Path, ram: GuestRam) -> None:
    with closing(Snapshot(str(directory))) as snapshot:
        snapshot.map(ram)


def read(ram: GuestRam, area: Range) -> bytes:
    hva = next(hva for region, hva in ram.regions if region == area)
    return bytes(ffi.buffer(ffi.cast("uint8_t *", hva), area.length))


def read_byte(ram: GuestRam, gpa: int) -> None:
    area, hva = next((area, hva) for area, hva in ram.regions if area.gpa <= gpa < area.end)
    assert ffi.cast("uint8_t *", hva)[gpa - area.gpa] in range(256)


def test_the_state_comes_back_as_it_was(tmp_path: Path, rams) -> None:
    save(tmp_path, STATE, rams[0])
    with closing(Snapshot(str(tmp_path))) as snapshot:
        assert snapshot.state == STATE
        assert list(snapshot.state) == list(STATE)
        assert list(snapshot.state["pci"]) == ["second", "first"]


def test_memory_comes_back_as_it_was(tmp_path: Path, rams) -> None:
    saved, restored = rams
    for gpa in (0, 5 * PAGE_BYTES + 1, MIB, LOW.end - 3, HIGH.gpa, HIGH.end - 3):
        saved.write(Gpa(gpa), b"abc")
    save(tmp_path, STATE, saved)
    put_back(tmp_path, restored)
    for area in (LOW, HIGH):
        assert read(restored, area) == read(saved, area)


def test_what_was_never_touched_or_is_zero_takes_no_room(tmp_path: Path, rams) -> None:
    saved, _ = rams
    saved.write(Gpa(MIB), bytes(2 * CHUNK_BYTES))
    saved.write(Gpa(2 * MIB), b"x")
    save(tmp_path, STATE, saved)
    assert (tmp_path / "memory").stat().st_size == CHUNK_BYTES
    with closing(Snapshot(str(tmp_path))) as snapshot:
        assert len(snapshot.runs) == 1


def test_what_nobody_has_touched_of_the_kernels_file_stays_in_it(tmp_path: Path, rams) -> None:
    """Four chunks of it, and the beginning of a fifth; in the second something is changed."""
    saved, restored = rams
    kernel = tmp_path / "kernel"
    length = 4 * CHUNK_BYTES + PAGE_BYTES
    kernel.write_bytes(os.urandom(PAGE_BYTES + length))
    fd = os.open(kernel, os.O_RDONLY)
    saved.map(Gpa(MIB), fd, PAGE_BYTES, length, str(kernel))
    os.close(fd)
    saved.write(Gpa(MIB + CHUNK_BYTES + 7), b"changed")
    save(tmp_path, STATE, saved)
    assert (tmp_path / "memory").stat().st_size == 2 * CHUNK_BYTES
    put_back(tmp_path, restored)
    assert read(restored, LOW) == read(saved, LOW)
    assert (
        read(restored, LOW)[MIB : MIB + CHUNK_BYTES]
        == kernel.read_bytes()[PAGE_BYTES:][:CHUNK_BYTES]
    )


def test_what_a_clone_writes_stays_its_own(tmp_path: Path, rams) -> None:
    saved, restored = rams
    saved.write(Gpa(0), b"template")
    save(tmp_path, STATE, saved)
    before = (tmp_path / "memory").read_bytes()
    put_back(tmp_path, restored)
    restored.write(Gpa(0), b"clone's!")
    assert (tmp_path / "memory").read_bytes() == before
    assert read(restored, LOW)[:8] == b"clone's!"


def damage(key: str, value: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        document = json.loads(path.read_text())
        document[key] = value
        path.write_text(json.dumps(document))

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.unlink(),
        damage("format", 1),
        damage("parts", {"vm": {"clock": "no base64"}}),
        damage("runs", [[1, 2]]),
        damage("parts", 7),
    ],
)
def test_what_is_no_state_is_refused_with_its_name(
    tmp_path: Path, rams, change: Callable[[Path], None]
) -> None:
    save(tmp_path, STATE, rams[0])
    change(tmp_path / "state.json")
    with pytest.raises(HostResource, match=r"state\.json: "):
        Snapshot(str(tmp_path))


def test_a_memory_file_of_another_size_is_refused(tmp_path: Path, rams) -> None:
    saved, restored = rams
    saved.write(Gpa(0), b"x")
    save(tmp_path, STATE, saved)
    os.truncate(tmp_path / "memory", PAGE_BYTES)
    with pytest.raises(HostResource, match="memory: has 4096 bytes, "):
        put_back(tmp_path, restored)


def test_what_a_clone_touched_is_ready_in_the_next_one(tmp_path: Path, rams, pagemap: int) -> None:
    """Written pages as private copies, the others as the file's; no other pages."""
    saved, trial = rams
    saved.write(LOW.gpa, bytes([1]) * LOW.length)
    save(tmp_path, STATE, saved)
    put_back(tmp_path, trial)
    read_byte(trial, MIB)
    trial.write(Gpa(2 * MIB), b"changed")
    touched = list(find_working_set(trial, pagemap))
    written = [page for page in touched if page.written]
    assert TouchedPages(2 * MIB, PAGE_BYTES, True) in written
    assert any(p.gpa <= MIB < p.gpa + p.length for p in touched if not p.written)
    touch(tmp_path, touched)
    with closing(GuestRam((LOW, HIGH))) as clone, closing(Snapshot(str(tmp_path))) as snapshot:
        snapshot.map(clone)
        assert snapshot.working_set is not None
        prefault(clone, -1, snapshot.working_set)
        assert set(written) <= set(find_working_set(clone, pagemap))
        assert read(clone, LOW) == read(saved, LOW)


def test_a_snapshot_without_a_trial_has_nothing_ready(tmp_path: Path, rams) -> None:
    save(tmp_path, STATE, rams[0])
    with closing(Snapshot(str(tmp_path))) as snapshot:
        assert snapshot.working_set is None


def test_only_what_was_touched_is_told_where_the_kernel_can(
    tmp_path: Path, rams, pagemap: int
) -> None:
    """Not the pages around it, which the host maps by fault-around."""
    saved, trial = rams
    saved.write(LOW.gpa, bytes([1]) * LOW.length)
    save(tmp_path, STATE, saved)
    put_back(tmp_path, trial)
    with closing(PageWatch(trial)) as watch:
        if watch.fd < 0:
            pytest.skip(f"this kernel has no asynchronous userfaultfd: {os.strerror(-watch.fd)}")
        read_byte(trial, MIB)
        trial.write(Gpa(2 * MIB), b"changed")
        assert list(find_working_set(trial, pagemap)) == [
            TouchedPages(MIB, PAGE_BYTES, False),
            TouchedPages(2 * MIB, PAGE_BYTES, True),
        ]


def test_a_watch_that_ends_leaves_the_memory_as_it_is(rams) -> None:
    PageWatch(rams[0]).close()
    rams[0].write(LOW.gpa, b"here")
    assert read(rams[0], LOW).startswith(b"here")


def test_what_is_no_list_of_pages_is_refused_with_its_name(tmp_path: Path, rams) -> None:
    save(tmp_path, STATE, rams[0])
    (tmp_path / "working_set").write_bytes(bytes(25))
    with pytest.raises(HostResource, match=r"/working_set: 25 bytes are not a list of pages"):
        Snapshot(str(tmp_path))


def test_pages_are_packed_as_native_code_has_them() -> None:
    packed = pack_working_set(
        [TouchedPages(MIB, PAGE_BYTES, False), TouchedPages(2 * MIB, 8192, True)]
    )
    ranges = ffi.from_buffer("struct prefault_range[]", packed)
    found = [(each.gpa, each.len, each.written) for each in ranges]
    assert found == [(MIB, PAGE_BYTES, 0), (2 * MIB, 8192, 1)]


def test_pages_outside_of_memory_are_refused(rams) -> None:
    with pytest.raises(OSError, match="guest_memory_prefault"):
        prefault(rams[0], -1, pack_working_set([TouchedPages(LOW.end, PAGE_BYTES, True)]))


def test_pages_are_reported_in_runs() -> None:
    pages = [None, True, True, False, None, False, True]
    assert list(group_pages(0, pages)) == [
        TouchedPages(1 * PAGE_BYTES, 2 * PAGE_BYTES, True),
        TouchedPages(3 * PAGE_BYTES, PAGE_BYTES, False),
        TouchedPages(5 * PAGE_BYTES, PAGE_BYTES, False),
        TouchedPages(6 * PAGE_BYTES, PAGE_BYTES, True),
    ]
