"""The rate of a machine's TSC: in a clone the template's, if this host can run at that."""

from collections.abc import Sequence
from typing import Final

from shim.errors import HostResource
from shim.vmm.kvm.part import Part, PartState
from shim.vmm.kvm.vcpu import Vcpu

TOLERANCE_PPM: Final = 250
"""KVM's own: within it a guest does not notice.  Calibration differs from boot to boot."""


class TscRate(Part):
    """Restored before the parts that read clocks."""

    name = "tsc"

    def __init__(self, vcpus: Sequence[Vcpu], can_scale: bool) -> None:
        self.vcpus = vcpus
        self.can_scale = can_scale

    def save(self) -> PartState:
        return {"khz": self.vcpus[0].read_tsc_khz().to_bytes(8, "little")}

    def restore(self, state: PartState) -> None:
        set_tsc(int.from_bytes(state["khz"], "little"), self.vcpus, self.can_scale)


def set_tsc(khz: int, vcpus: Sequence[Vcpu], can_scale: bool) -> None:
    """HostResource if this host's TSC cannot run at the template's rate.

    Without hardware scaling KVM would correct the TSC at every entry.
    """
    own_khz = vcpus[0].read_tsc_khz()
    if khz == own_khz:
        return
    if not can_scale and abs(khz - own_khz) * 10**6 > TOLERANCE_PPM * own_khz:
        raise HostResource(f"the template's TSC runs at {khz} kHz, this host's at {own_khz} kHz")
    for vcpu in vcpus:
        vcpu.set_tsc_khz(khz)
