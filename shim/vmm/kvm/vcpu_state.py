"""A vCPU's whole state, as KVM gives it and takes it back.

Opaque bytes of the host's own KVM: they never leave the host, and a template with
them is no longer used when the host's kernel or processor changes.
Spec: Linux Documentation/virt/kvm/api.rst §4.11 to §4.19, §4.31 to §4.43.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from native.ffi import Pointer, ffi
from shim.errors import HostResource
from shim.vmm.kvm.ioctl import kvm_ioctl
from shim.vmm.kvm.opaque import make_struct, take_bytes
from shim.vmm.kvm.part import PartState
from shim.vmm.kvm.system import KvmSystem

MSR_TSC_DEADLINE: Final = 0x6E0
MSR_DEBUGCTL: Final = 0x1D9
"""Each write of it adds a warning to an AMD host's log; the agent debugs nothing."""
HYPERV_MSRS: Final = range(0x40000000, 0x40000200)
"""Not offered to our guests; an access would make KVM keep state for them."""
MSR_BYTES: Final = 16
PLAIN_XSAVE_BYTES: Final = 4096

BEFORE_MSRS: Final = (
    ("sregs", "SREGS", "struct kvm_sregs"),
    ("xcrs", "XCRS", "struct kvm_xcrs"),
    ("regs", "REGS", "struct kvm_regs"),
    ("debugregs", "DEBUGREGS", "struct kvm_debugregs"),
    ("lapic", "LAPIC", "struct kvm_lapic_state"),
)
AFTER_MSRS: Final = (
    ("events", "VCPU_EVENTS", "struct kvm_vcpu_events"),
    ("mp_state", "MP_STATE", "struct kvm_mp_state"),
)
"""Order matters: the APIC's base is in sregs, a deadline needs the APIC's timer mode."""


def read_xsave_bytes(system: KvmSystem) -> int:
    """0 if KVM has only the plain structure."""
    return system.read_capability("KVM_CAP_XSAVE2")


def read_msr_numbers(system: KvmSystem) -> tuple[int, ...]:
    """Those that KVM saves; the deadline last, since it depends on the TSC."""
    count = 1024
    table = ffi.new("struct kvm_msr_list *", {"indices": count})
    table.nmsrs = count
    kvm_ioctl(system.fd, "KVM_GET_MSR_INDEX_LIST", table)
    found = table.indices[0 : table.nmsrs]
    wanted = (msr for msr in found if msr != MSR_DEBUGCTL and msr not in HYPERV_MSRS)
    return tuple(sorted(wanted, key=lambda msr: msr == MSR_TSC_DEADLINE))


def save_vcpu(fd: int, msrs: Sequence[int], xsave_bytes: int) -> PartState:
    """While the vCPU does not run; it must never run again."""
    state = {name: read_part(fd, call, ctype) for name, call, ctype in (*BEFORE_MSRS, *AFTER_MSRS)}
    area = ffi.new("uint8_t[]", max(xsave_bytes, PLAIN_XSAVE_BYTES))
    kvm_ioctl(fd, "KVM_GET_XSAVE2" if xsave_bytes else "KVM_GET_XSAVE", area)
    state["xsave"] = take_bytes(area)
    state["msrs"] = b"".join(keep_writable(fd, read_msrs(fd, msrs)))
    return state


def restore_vcpu(fd: int, state: PartState) -> None:
    """After KVM_SET_CPUID2 with the same table, before it runs."""
    for name, call, ctype in BEFORE_MSRS:
        write_part(fd, call, ctype, state[name])
    area = ffi.new("uint8_t[]", state["xsave"])
    kvm_ioctl(fd, "KVM_SET_XSAVE", area)
    write_msrs(fd, state["msrs"])
    for name, call, ctype in AFTER_MSRS:
        write_part(fd, call, ctype, state[name])


def read_part(fd: int, call: str, ctype: str) -> bytes:
    part = ffi.new(f"{ctype} *")
    kvm_ioctl(fd, f"KVM_GET_{call}", part)
    return take_bytes(part)


def write_part(fd: int, call: str, ctype: str, data: bytes) -> None:
    kvm_ioctl(fd, f"KVM_SET_{call}", make_struct(ctype, data))


def make_msrs(entries: bytes) -> Pointer:
    count = len(entries) // MSR_BYTES
    table = ffi.new("struct kvm_msrs *", {"entries": count})
    table.nmsrs = count
    ffi.memmove(table.entries, entries, count * MSR_BYTES)
    return table


def read_msrs(fd: int, numbers: Sequence[int]) -> Iterator[bytes]:
    """Entries of struct kvm_msr_entry.  KVM lists some that this vCPU does not have."""
    table = ffi.new("struct kvm_msrs *", {"entries": 1})
    table.nmsrs = 1
    for number in numbers:
        table.entries[0].index = number
        if kvm_ioctl(fd, "KVM_GET_MSRS", table) == 1:
            yield bytes(ffi.buffer(table.entries, MSR_BYTES))


def keep_writable(fd: int, entries: Iterator[bytes]) -> Iterator[bytes]:
    """An MSR that KVM does not accept is not the guest's state: it follows from CPUID."""
    for entry in entries:
        try:
            taken = kvm_ioctl(fd, "KVM_SET_MSRS", make_msrs(entry))
        except OSError:
            continue
        if taken == 1:
            yield entry


def write_msrs(fd: int, entries: bytes) -> None:
    table = make_msrs(entries)
    done = kvm_ioctl(fd, "KVM_SET_MSRS", table)
    if done != table.nmsrs:
        raise HostResource(f"KVM_SET_MSRS: KVM refuses MSR {table.entries[done].index:#x}")
