"""The ports by which a guest ends its machine; what they mean is in the ACPI tables.

Owns native's object; a write to a port becomes a machine event.
"""

from native.ffi import Power, check, ffi, lib
from shim.vmm.address_map import (
    RESET_PORT,
    RESET_VALUE,
    SLEEP_CONTROL_PORT,
    SLEEP_STATUS_PORT,
    SLEEP_TYPE_S5,
)
from shim.vmm.kvm.bus import Bus
from shim.vmm.kvm.events import MachineEvents
from shim.vmm.kvm.part import Part


class PowerPorts(Part):
    """`close` after the bus that it is attached to."""

    name = "power"

    def __init__(self, events: MachineEvents) -> None:
        ports = ffi.new("struct power_ports *")
        ports.reset_port = RESET_PORT
        ports.reset_value = RESET_VALUE
        ports.sleep_control_port = SLEEP_CONTROL_PORT
        ports.sleep_status_port = SLEEP_STATUS_PORT
        ports.sleep_type_off = SLEEP_TYPE_S5
        power = ffi.new("struct power **")
        check(lib.power_new(ports, events.pointer, power), "power_new")
        self.power: Power = power[0]

    def attach(self, bus: Bus) -> None:
        check(lib.power_attach(self.power, bus.pointer), "power_attach")

    def close(self) -> None:
        lib.power_free(self.power)
        self.power = ffi.NULL
