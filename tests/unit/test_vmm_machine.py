"""The calls of a machine to its parts and their order; the parts are fakes."""

from typing import Any, cast

import pytest

from native.ffi import ffi
from shim.errors import FailedPrecondition, HostResource
from shim.vmm import machine as machine_module
from shim.vmm.devices.vsock import Vsock
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.part import Part, PartState
from shim.vmm.kvm.vcpus import VcpuSet, split_states
from shim.vmm.machine import Machine


class FakePart(Part):
    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told
        self.obstacles = [""]
        self.counted: dict[str, Any] = {}

    def restore(self, state: PartState) -> None:
        self.told.append(f"restore {self.name} {state}")

    def rewind(self) -> None:
        self.told.append(f"rewind {self.name}")

    def begin(self, cloned: bool) -> None:
        self.told.append(f"begin {self.name} {cloned}")

    def read_obstacle(self) -> str:
        return self.obstacles.pop(0) if len(self.obstacles) > 1 else self.obstacles[0]

    def stop(self) -> None:
        self.told.append(f"stop {self.name}")

    def save(self) -> PartState:
        self.told.append(f"save {self.name}")
        return {"of": self.name.encode()}

    def read_counters(self) -> dict[str, Any]:
        return self.counted


class FakeVcpus(VcpuSet):
    def __init__(self, told: list[str]) -> None:
        self.told = told

    def pause(self) -> None:
        self.told.append("pause")

    def save(self) -> PartState:
        return {}

    def restore(self, state: PartState) -> None:
        self.told.append("restore vcpus")

    def rewind(self) -> None:
        self.told.append("rewind vcpus")

    def read_counters(self) -> dict[str, Any]:
        return {"exits": {"hlt": 1}}


class FakeEvents(MachineEvents):
    def __init__(self) -> None:
        self.fault_count = 2


class FakeVsock(Vsock):
    def __init__(self) -> None:
        self.events_fd = -1

    def read_obstacle(self) -> str:
        return ""


class FakeBus(Bus):
    def __init__(self) -> None:
        self.pointer = ffi.NULL

    def read_accesses(self) -> dict[str, int]:
        return {"power": 1}


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def fakes(told: list[str]) -> list[FakePart]:
    return [FakePart("first", told), FakePart("last", told)]


@pytest.fixture
def machine(told: list[str], fakes: list[FakePart]) -> Machine:
    parts = (fakes[0], FakeVcpus(told), FakeEvents(), FakeVsock(), fakes[1])
    return Machine(cast(GuestRam, None), FakeBus(), parts, pagemap_fd=9)


@pytest.fixture
def saved(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> dict[str, PartState]:
    kept: dict[str, PartState] = {}
    monkeypatch.setattr(
        machine_module, "write_snapshot", lambda _memory, _file, state, *_: kept.update(state)
    )
    machine.save(7, 8)
    return kept


def test_all_parts_have_stopped_before_any_is_saved(
    saved: dict[str, PartState], told: list[str]
) -> None:
    assert told == ["pause", "stop first", "stop last", "save first", "save last"]
    assert saved["first"] == {"of": b"first"}


def test_what_was_saved_is_restored_in_the_order_of_the_parts(
    saved: dict[str, PartState], machine: Machine, told: list[str]
) -> None:
    told.clear()
    machine.restore(saved)
    machine.begin()
    machine.rewind()
    assert told == [
        "restore first {'of': b'first'}",
        "restore vcpus",
        "restore last {'of': b'last'}",
        "begin first True",
        "begin last True",
        "rewind first",
        "rewind vcpus",
        "rewind last",
    ]


def test_another_machines_parts_are_not_restored(
    saved: dict[str, PartState], machine: Machine, told: list[str]
) -> None:
    told.clear()
    for state in ({**saved, "more": {}}, dict(reversed(saved.items())), {}):
        with pytest.raises(HostResource, match="the template has the parts"):
            machine.restore(state)
    assert told == []
    assert not machine.cloned


def test_a_machine_that_booted_has_nowhere_to_go_back_to(machine: Machine, told: list[str]) -> None:
    machine.begin()
    machine.rewind()
    assert told == ["begin first False", "begin last False"]


def test_a_machine_is_saved_once_nothing_is_in_the_way(
    machine: Machine,
    fakes: list[FakePart],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine_module, "QUIET_POLL_S", 0.0)
    fakes[1].obstacles = ["busy", "busy", ""]
    machine.wait_quiet()
    fakes[1].obstacles = ["the guest has 1 connections open"]
    monkeypatch.setattr(machine_module, "QUIET_TIMEOUT_S", 0.0)
    with pytest.raises(FailedPrecondition, match="the guest has 1 connections open"):
        machine.save(7, 8)
    assert told == []


def test_a_machine_that_was_not_made_for_it_is_not_saved(told: list[str]) -> None:
    parts = (FakeVcpus(told), FakeEvents(), FakeVsock())
    machine = Machine(cast(GuestRam, None), FakeBus(), parts)
    with pytest.raises(FailedPrecondition, match="not made to be saved"):
        machine.save(7, 8)
    with pytest.raises(FailedPrecondition, match="not made to be saved"):
        machine.save_working_set(7)
    assert told == []


def test_counters_of_one_topic_are_brought_together(
    machine: Machine, fakes: list[FakePart]
) -> None:
    fakes[0].counted = {"requests": {"image": {"1": 2}}}
    fakes[1].counted = {"requests": {"rootfs": {"1": 3}}}
    assert machine.read_counters() == {
        "cloned": False,
        "accesses": {"power": 1},
        "exits": {"hlt": 1},
        "faults": 2,
        "requests": {"image": {"1": 2}, "rootfs": {"1": 3}},
    }


def test_each_vcpu_gets_its_own_state_back() -> None:
    state = {"0.regs": b"a", "0.msrs": b"b", "1.regs": b"c", "1.msrs": b"d"}
    assert split_states(state) == [{"regs": b"a", "msrs": b"b"}, {"regs": b"c", "msrs": b"d"}]
    assert split_states({}) == []
