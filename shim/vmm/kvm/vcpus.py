"""The vCPU threads of a machine: started, paused, counted, stopped together.

Owns native's set and the vCPUs in it.  The threads never call into Python.
"""

from collections.abc import Sequence
from typing import Any

from native.ffi import VcpuSet as NativeVcpuSet
from native.ffi import check, ffi, lib
from shim.errors import HostResource
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.ioctl import kvm_ioctl
from shim.vmm.kvm.part import Part, PartState
from shim.vmm.kvm.system import KvmSystem
from shim.vmm.kvm.vcpu import Vcpu
from shim.vmm.kvm.vcpu_state import (
    read_msr_numbers,
    read_xsave_bytes,
    restore_vcpu,
    save_vcpu,
    write_msrs,
)


class VcpuSet(Part):
    """new → start → (pause, resume)… → close.  `bus` and `events` outlive it."""

    name = "vcpus"

    def __init__(
        self,
        system: KvmSystem,
        vcpus: Sequence[Vcpu],
        bus: Bus,
        events: MachineEvents,
        saves: bool = False,
    ) -> None:
        """`saves`: `save` will be called; what it needs of KVM is read now."""
        self.saved_msrs = read_msr_numbers(system) if saves else ()
        self.xsave_bytes = read_xsave_bytes(system) if saves else 0
        self.members = tuple(vcpus)
        self.saved: list[PartState] = []
        vcpu_set = ffi.new("struct vcpu_set **")
        calls = ffi.addressof(lib, "kvm_calls")
        check(lib.vcpu_set_new(calls, bus.pointer, events.pointer, vcpu_set), "vcpu_set_new")
        self.pointer: NativeVcpuSet = vcpu_set[0]
        try:
            run_bytes = kvm_ioctl(system.fd, "KVM_GET_VCPU_MMAP_SIZE")
            for vcpu in vcpus:
                check(lib.vcpu_set_add(self.pointer, vcpu.fd, run_bytes), "vcpu_set_add")
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        check(lib.vcpu_set_start(self.pointer), "vcpu_set_start")

    def pause(self) -> None:
        lib.vcpu_set_pause(self.pointer)

    def resume(self) -> None:
        lib.vcpu_set_resume(self.pointer)

    def save(self) -> PartState:
        """While the vCPUs are paused; they must never run again."""
        states = (save_vcpu(vcpu.fd, self.saved_msrs, self.xsave_bytes) for vcpu in self.members)
        return {
            f"{index}.{name}": data
            for index, state in enumerate(states)
            for name, data in state.items()
        }

    def restore(self, state: PartState) -> None:
        saved = split_states(state)
        if len(saved) != len(self.members):
            raise HostResource(f"the template has {len(saved)} vCPUs, not {len(self.members)}")
        for vcpu, of_one in zip(self.members, saved, strict=True):
            restore_vcpu(vcpu.fd, of_one)
        self.saved = saved

    def rewind(self) -> None:
        """Sets the MSRs again, the TSC among them."""
        for vcpu, state in zip(self.members, self.saved, strict=True):
            write_msrs(vcpu.fd, state["msrs"])

    def read_counters(self) -> dict[str, Any]:
        return {"exits": self.read_exits()}

    def read_exits(self) -> dict[str, int]:
        """Exits to user space by reason, without zeros."""
        found = {}
        for reason in range(lib.VCPU_MAX_EXIT_REASONS):
            count = lib.vcpu_set_exits(self.pointer, reason)
            if count:
                name = lib.vcpu_exit_name(reason)
                found[ffi.string(name).decode() if name else f"reason-{reason}"] = count
        return found

    def close(self) -> None:
        """The threads have ended when it returns."""
        lib.vcpu_set_free(self.pointer)
        self.pointer = ffi.NULL


def split_states(state: PartState) -> list[PartState]:
    """One state for each vCPU, in their order."""
    states: list[PartState] = []
    for key, data in state.items():
        index, _, name = key.partition(".")
        if int(index) == len(states):
            states.append({})
        states[int(index)][name] = data
    return states
