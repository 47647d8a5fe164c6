"""The rate of a machine's TSC: a clone's runs as its template's did, where this host's can."""

from collections.abc import Sequence
from typing import Final

from shim.errors import HostResource
from shim.vmm.kvm.part import Part, PartState
from shim.vmm.kvm.vcpu import Vcpu

TOLERANCE_PPM: Final = 250
"""KVM's own: within it a guest does not notice.  Calibration differs from boot to boot."""


class TscRate(Part):
    """Restored before what reads clocks."""

    name = "tsc"

    def __init__(self, vcpus: Sequence[Vcpu], can_scale: bool) -> None:
        self.vcpus = vcpus
        self.can_scale = can_scale

    def save(self) -> PartState:
        return {"khz": self.vcpus[0].read_tsc_khz().to_bytes(8, "little")}

    def restore(self, state: PartState) -> None:
        set_tsc(int.from_bytes(state["khz"], "little"), self.vcpus, self.can_scale)


def set_tsc(khz: int, vcpus: Sequence[Vcpu], can_scale: bool) -> None:
    """HostResource where this host's cannot run at the template's rate.

    Without scaling KVM would make good what is missing at every entry.
    """
    own_khz = vcpus[0].read_tsc_khz()
    if khz == own_khz:
        return
    if not can_scale and abs(khz - own_khz) * 10**6 > TOLERANCE_PPM * own_khz:
        raise HostResource(f"the template's TSC runs at {khz} kHz, this host's at {own_khz} kHz")
    for vcpu in vcpus:
        vcpu.set_tsc_khz(khz)
