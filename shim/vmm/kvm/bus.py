"""Native's bus: sends the guest's accesses to ports and device memory to the devices.

Owns the bus, not what is attached to it.
"""

from native.ffi import Bus as NativeBus
from native.ffi import check, ffi, lib


class Bus:
    """Attach devices before the first vCPU runs; close it after the last has stopped."""

    def __init__(self) -> None:
        bus = ffi.new("struct bus **")
        check(lib.bus_new(bus), "bus_new")
        self.pointer: NativeBus = bus[0]

    def read_accesses(self) -> dict[str, int]:
        """Accesses that exited to user space, by region; unclaimed ones by address."""
        counter = ffi.new("struct bus_counter *")
        found: dict[str, int] = {}
        index = 0
        while lib.bus_read_counter(self.pointer, index, counter) > 0:
            index += 1
            space = "port" if counter.space == lib.BUS_PORTS else "memory"
            name = ffi.string(counter.name).decode() or f"{space} {counter.address:#x}"
            total = counter.reads + counter.writes
            if total:
                found[name] = found.get(name, 0) + total
        return found

    def close(self) -> None:
        lib.bus_free(self.pointer)
        self.pointer = ffi.NULL
