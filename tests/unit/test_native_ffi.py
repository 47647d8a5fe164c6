"""The compiled C layer as Python sees it: present, typed, its errors OSErrors."""

import errno
import importlib
import inspect
import os
import pkgutil
import select
import typing
from collections.abc import Iterator

import pytest

from native.ffi import DeviceLibrary, JailLibrary, KvmLibrary, MachineLibrary, check, ffi, lib
from shim.vmm import devices

DEVICES = [
    importlib.import_module(f"{devices.__name__}.{module.name}")
    for module in pkgutil.iter_modules(devices.__path__)
]
PROTOCOLS = (
    KvmLibrary,
    MachineLibrary,
    DeviceLibrary,
    JailLibrary,
    *(
        value
        for module in DEVICES
        for name, value in vars(module).items()
        if name.endswith("Library") and value.__module__ == module.__name__
    ),
)


def declared_functions() -> set[str]:
    return {
        name
        for protocol in PROTOCOLS
        for name, value in vars(protocol).items()
        if callable(value) and not name.startswith("_")
    }


def test_the_types_name_every_function_of_the_library() -> None:
    """A function that is compiled in without a type would be called unchecked."""
    compiled = {name for name in dir(lib) if inspect.isbuiltin(getattr(lib, name))}
    assert declared_functions() == compiled


def test_every_typed_function_takes_as_many_arguments_as_the_compiled_one() -> None:
    for protocol in PROTOCOLS:
        for name in declared_functions() & set(vars(protocol)):
            typed = [
                key for key in typing.get_type_hints(getattr(protocol, name)) if key != "return"
            ]
            compiled = ffi.typeof(ffi.addressof(lib, name)).args
            assert len(typed) == len(compiled), name


def test_check_names_the_call_and_the_error() -> None:
    assert check(7, "KVM_CREATE_VM") == 7
    with pytest.raises(FileNotFoundError) as caught:
        check(-errno.ENOENT, "KVM_CREATE_VM")
    assert caught.value.filename == "KVM_CREATE_VM"


def test_an_ioctl_that_fails_answers_its_errno() -> None:
    with open(os.devnull, "rb") as file:
        assert lib.kvm_ioctl(file.fileno(), lib.KVM_GET_API_VERSION, ffi.NULL) == -errno.ENOTTY
    assert lib.kvm_ioctl(-1, lib.KVM_CREATE_VM, ffi.NULL) == -errno.EBADF


@pytest.mark.parametrize(
    ("struct", "size"),
    [
        ("struct kvm_regs", 144),
        ("struct kvm_sregs", 312),
        ("struct kvm_cpuid_entry2", 40),
        ("struct kvm_msr_entry", 16),
        ("struct kvm_lapic_state", 1024),
        ("struct kvm_userspace_memory_region", 32),
    ],
)
def test_structs_have_the_size_that_the_kernel_reads(struct: str, size: int) -> None:
    """KVM's ABI (linux/kvm.h of every release), which the "..." of the cdef left open."""
    assert ffi.sizeof(struct) == size


def test_a_table_of_variable_length_has_room_for_its_entries() -> None:
    table = ffi.new("struct kvm_cpuid2 *", {"entries": 3})
    table.entries[2].eax = 0xDEAD
    with pytest.raises(IndexError):
        table.entries[3].eax = 1


@pytest.fixture
def memory() -> Iterator[tuple[object, object]]:
    mapped = ffi.new("void **")
    check(lib.guest_memory_map(1 << 20, mapped), "guest_memory_map")
    table = ffi.new("struct guest_memory *")
    check(lib.guest_memory_add(table, 0x1000, 1 << 20, mapped[0]), "guest_memory_add")
    yield table, mapped[0]
    check(lib.guest_memory_unmap(mapped[0], 1 << 20), "guest_memory_unmap")


def test_guest_memory_takes_bytes_and_bounds_them(memory) -> None:
    table, hva = memory
    assert lib.guest_memory_write(table, 0x1010, b"sampan", 6) == 0
    assert bytes(ffi.buffer(ffi.cast("uint8_t *", hva), 0x16))[0x10:] == b"sampan"
    assert lib.guest_memory_write(table, 0xFFF, b"x", 1) == -errno.EFAULT
    assert lib.guest_memory_write(table, 0x1000 + (1 << 20) - 1, b"xy", 2) == -errno.EFAULT


def test_an_idle_machine_tells_nothing() -> None:
    events = ffi.new("struct machine_events **")
    check(lib.machine_events_new(events), "machine_events_new")
    event = ffi.new("struct machine_event *")
    assert lib.machine_events_next(events[0], event) == 0
    fd = lib.machine_events_fd(events[0])
    assert select.select([fd], [], [], 0) == ([], [], [])
    lib.machine_events_free(events[0])


def test_a_bus_counts_what_is_on_it(tmp_path) -> None:
    fd = os.open(tmp_path / "console", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    console, serial = ffi.new("struct console **"), ffi.new("struct serial **")
    bus, counter = ffi.new("struct bus **"), ffi.new("struct bus_counter *")
    check(lib.bus_new(bus), "bus_new")
    assert lib.console_new(fd, lib.CONSOLE_MIN_BYTES - 1, console) == -errno.EINVAL
    check(lib.console_new(fd, lib.CONSOLE_MIN_BYTES, console), "console_new")
    check(lib.serial_new(console[0], -1, serial), "serial_new")
    check(lib.serial_attach(serial[0], bus[0], 0x3F8), "serial_attach")
    assert lib.serial_attach(serial[0], bus[0], 0x3F8) == -errno.EINVAL
    assert lib.bus_read_counter(bus[0], 0, counter) == 1
    assert ffi.string(counter.name) == b"serial"
    assert (counter.space, counter.address, counter.reads) == (lib.BUS_PORTS, 0x3F8, 0)
    lib.serial_free(serial[0])
    lib.console_free(console[0])
    lib.bus_free(bus[0])


def test_exits_have_names() -> None:
    names = [lib.vcpu_exit_name(reason) for reason in range(lib.VCPU_MAX_EXIT_REASONS)]
    found = {ffi.string(name).decode() for name in names if name != ffi.NULL}
    assert {"io", "mmio", "hlt", "internal_error"} <= found
