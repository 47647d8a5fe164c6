"""The vCPU threads of a machine: started, paused, counted, stopped together.

Owns native's set and the vCPUs in it.  The threads never call into Python.
"""

from collections.abc import Sequence

from native.ffi import VcpuSet as NativeVcpuSet
from native.ffi import check, ffi, lib
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.ioctl import kvm_ioctl
from shim.vmm.kvm.system import KvmSystem
from shim.vmm.kvm.vcpu import Vcpu


class VcpuSet:
    """new → start → (pause, resume)… → close.  `bus` and `events` outlive it."""

    def __init__(
        self, system: KvmSystem, vcpus: Sequence[Vcpu], bus: Bus, events: MachineEvents
    ) -> None:
        self.members = tuple(vcpus)
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

    def read_exits(self) -> dict[str, int]:
        """Exits to user space by reason, those that happened."""
        found = {}
        for reason in range(lib.VCPU_MAX_EXIT_REASONS):
            count = lib.vcpu_set_exits(self.pointer, reason)
            if count:
                name = lib.vcpu_exit_name(reason)
                found[ffi.string(name).decode() if name else f"reason-{reason}"] = count
        return found

    def close(self) -> None:
        """The threads are gone when it returns."""
        lib.vcpu_set_free(self.pointer)
        self.pointer = ffi.NULL
