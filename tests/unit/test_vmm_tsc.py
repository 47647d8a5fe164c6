"""A clone's TSC runs as its template's did, where this host's can."""

from typing import cast

import pytest

from shim.errors import HostResource
from shim.vmm.kvm.tsc import TOLERANCE_PPM, TscRate, set_tsc
from shim.vmm.kvm.vcpu import Vcpu

KHZ = 2_600_000


class Processor:
    def __init__(self) -> None:
        self.khz = KHZ
        self.sets = 0

    def read_tsc_khz(self) -> int:
        return self.khz

    def set_tsc_khz(self, khz: int) -> None:
        self.khz = khz
        self.sets += 1


def make(count: int = 2) -> tuple[list[Processor], list[Vcpu]]:
    processors = [Processor() for _ in range(count)]
    return processors, [cast(Vcpu, processor) for processor in processors]


def test_the_same_rate_is_left_alone() -> None:
    processors, vcpus = make()
    set_tsc(KHZ, vcpus, can_scale=True)
    assert [processor.sets for processor in processors] == [0, 0]


@pytest.mark.parametrize("khz", [KHZ + 1, KHZ - 500, KHZ + KHZ * TOLERANCE_PPM // 10**6])
def test_a_rate_that_was_measured_a_little_differently_is_every_vcpus(khz: int) -> None:
    processors, vcpus = make()
    set_tsc(khz, vcpus, can_scale=False)
    assert [processor.khz for processor in processors] == [khz, khz]


def test_another_processors_rate_needs_scaling() -> None:
    processors, vcpus = make()
    with pytest.raises(HostResource, match=f"TSC runs at {KHZ * 2} kHz, this host's at {KHZ} kHz"):
        set_tsc(KHZ * 2, vcpus, can_scale=False)
    assert [processor.sets for processor in processors] == [0, 0]
    set_tsc(KHZ * 2, vcpus, can_scale=True)
    assert [processor.khz for processor in processors] == [KHZ * 2, KHZ * 2]


def test_a_rate_comes_back_as_it_was_saved() -> None:
    processors, vcpus = make()
    saved = TscRate(vcpus, can_scale=True).save()
    for processor in processors:
        processor.khz = KHZ // 2
    TscRate(vcpus, can_scale=True).restore(saved)
    assert [processor.khz for processor in processors] == [KHZ, KHZ]
