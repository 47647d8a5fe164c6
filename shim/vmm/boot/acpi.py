"""The ACPI tables of the machine: hardware-reduced, no firmware behind them.

Pure: builds the bytes for address_map.ACPI_GPA.  Power-off and reset are one
port write each, which native's bus turns into the machine's end.  An interrupt
through a generic event device tells the kernel that it runs in a clone now.
Spec: ACPI 6.5 §5.2 (tables), §4.1 (hardware-reduced), §5.6.9 (generic event device), PCI
Firmware 3.3 §4.1.2 (MCFG), Microsoft's "Virtual Machine Generation ID" (2012).
"""

import struct
from typing import Final, NamedTuple

from shim.vmm.address_map import (
    ACPI_GPA,
    ECAM_BYTES,
    ECAM_GPA,
    GENERATION_GPA,
    GENERATION_GSI,
    IOAPIC_GPA,
    LAPIC_GPA,
    PCI_WINDOW_BYTES,
    PCI_WINDOW_GPA,
    RESET_PORT,
    RESET_VALUE,
    SERIAL_GSI,
    SERIAL_PORT,
    SLEEP_CONTROL_PORT,
    SLEEP_STATUS_PORT,
    SLEEP_TYPE_S5,
    Gpa,
    Range,
)
from shim.vmm.boot import aml
from shim.vmm.boot.linux import Blob

OEM_ID: Final = b"SAMPAN"
OEM_TABLE_ID: Final = b"SAMPANVM"
CREATOR_ID: Final = b"SMPN"
HEADER: Final = struct.Struct("<4sIBB6s8sI4sI")
CHECKSUM_OFFSET: Final = 9
TABLE_ALIGNMENT: Final = 16
RSDP_BYTES: Final = 36

# --- FADT ------------------------------------------------------------------------------
FADT_BYTES: Final = 276
FADT_FLAGS_OFFSET: Final = 112
FADT_BOOT_ARCH_OFFSET: Final = 109
FADT_RESET_OFFSET: Final = 116
FADT_X_DSDT_OFFSET: Final = 140
FADT_SLEEP_CONTROL_OFFSET: Final = 244
FADT_SLEEP_STATUS_OFFSET: Final = 256
FADT_HYPERVISOR_OFFSET: Final = 268
BOOT_ARCH_NO_VGA: Final = 1 << 2
BOOT_ARCH_NO_CMOS_RTC: Final = 1 << 5
FLAG_WBINVD: Final = 1 << 0
FLAG_NO_FIXED_POWER_BUTTON: Final = 1 << 4
FLAG_NO_FIXED_SLEEP_BUTTON: Final = 1 << 5
FLAG_RESET_REGISTER: Final = 1 << 10
FLAG_HARDWARE_REDUCED: Final = 1 << 20

# --- MADT ------------------------------------------------------------------------------
MADT_LOCAL_APIC: Final = 0
MADT_IO_APIC: Final = 1
LOCAL_APIC_ENABLED: Final = 1

GENERATION_NAME: Final = "VM_Gen_Counter"
GENERATION_CHANGED: Final = 0x80

GAS_SYSTEM_IO: Final = 1
GAS_BYTE_ACCESS: Final = 1


class AcpiTables(NamedTuple):
    rsdp_gpa: Gpa
    blob: Blob


def build_acpi(vcpus: int, window64: Range) -> AcpiTables:
    """All tables in one piece: the RSDP first, each table at its own address after it."""
    area = bytearray(RSDP_BYTES)

    def place(table: bytes) -> int:
        area.extend(bytes(-len(area) % TABLE_ALIGNMENT))
        gpa = ACPI_GPA + len(area)
        area.extend(table)
        return gpa

    dsdt_gpa = place(build_dsdt(window64))
    pointers = [
        place(build_fadt(dsdt_gpa)),
        place(build_madt(vcpus)),
        place(build_mcfg()),
    ]
    xsdt_gpa = place(build_table(b"XSDT", 1, struct.pack(f"<{len(pointers)}Q", *pointers)))
    area[:RSDP_BYTES] = build_rsdp(xsdt_gpa)
    return AcpiTables(ACPI_GPA, Blob(ACPI_GPA, bytes(area)))


def build_table(signature: bytes, revision: int, body: bytes) -> bytes:
    header = HEADER.pack(
        signature, HEADER.size + len(body), revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR_ID, 1
    )
    table = bytearray(header + body)
    table[CHECKSUM_OFFSET] = -sum(table) & 0xFF
    return bytes(table)


def build_rsdp(xsdt_gpa: int) -> bytes:
    """Two checksums: one over the 20 bytes of ACPI 1.0, one over everything."""
    rsdp = bytearray(
        struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, OEM_ID, 2, 0, RSDP_BYTES, xsdt_gpa, 0)
    )
    rsdp[8] = -sum(rsdp[:20]) & 0xFF
    rsdp[32] = -sum(rsdp) & 0xFF
    return bytes(rsdp)


def build_fadt(dsdt_gpa: int) -> bytes:
    body = bytearray(FADT_BYTES - HEADER.size)

    def put(offset: int, layout: str, *values: int) -> None:
        struct.pack_into(layout, body, offset - HEADER.size, *values)

    def put_port(offset: int, port: int) -> None:
        put(offset, "<BBBBQ", GAS_SYSTEM_IO, 8, 0, GAS_BYTE_ACCESS, port)

    put(FADT_BOOT_ARCH_OFFSET, "<H", BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_CMOS_RTC)
    put(
        FADT_FLAGS_OFFSET,
        "<I",
        FLAG_WBINVD
        | FLAG_NO_FIXED_POWER_BUTTON
        | FLAG_NO_FIXED_SLEEP_BUTTON
        | FLAG_RESET_REGISTER
        | FLAG_HARDWARE_REDUCED,
    )
    put_port(FADT_RESET_OFFSET, RESET_PORT)
    put(FADT_RESET_OFFSET + 12, "<B", RESET_VALUE)
    put(FADT_RESET_OFFSET + 15, "<B", 5)  # minor version: ACPI 6.5
    put(FADT_X_DSDT_OFFSET, "<Q", dsdt_gpa)
    put_port(FADT_SLEEP_CONTROL_OFFSET, SLEEP_CONTROL_PORT)
    put_port(FADT_SLEEP_STATUS_OFFSET, SLEEP_STATUS_PORT)
    offset = FADT_HYPERVISOR_OFFSET - HEADER.size
    body[offset : offset + 8] = OEM_TABLE_ID
    return build_table(b"FACP", 6, bytes(body))


def build_madt(vcpus: int) -> bytes:
    body = struct.pack("<II", LAPIC_GPA, 0)  # no flags: no PC/AT-compatible PICs
    for vcpu in range(vcpus):
        body += struct.pack("<BBBBI", MADT_LOCAL_APIC, 8, vcpu, vcpu, LOCAL_APIC_ENABLED)
    body += struct.pack("<BBBBII", MADT_IO_APIC, 12, 0, 0, IOAPIC_GPA, 0)
    return build_table(b"APIC", 5, body)


def build_mcfg() -> bytes:
    return build_table(b"MCFG", 1, struct.pack("<8xQHBB4x", ECAM_GPA, 0, 0, 0))


def build_dsdt(window64: Range) -> bytes:
    host_bridge = aml.device(
        "PCI0",
        aml.named("_HID", aml.eisa_id("PNP0A08")),
        aml.named("_CID", aml.eisa_id("PNP0A03")),
        aml.named("_UID", aml.integer(0)),
        aml.named("_SEG", aml.integer(0)),
        aml.named("_BBN", aml.integer(0)),
        aml.named(
            "_CRS",
            aml.resources(
                aml.bus_numbers(0, 0),
                aml.memory_window(PCI_WINDOW_GPA, PCI_WINDOW_BYTES),
                aml.memory_window(window64.gpa, window64.length),
            ),
        ),
    )
    # Linux uses the ECAM window only if a motherboard resource covers it.
    motherboard = aml.device(
        "MBRD",
        aml.named("_HID", aml.eisa_id("PNP0C02")),
        aml.named("_UID", aml.integer(0)),
        aml.named("_CRS", aml.resources(aml.fixed_memory(ECAM_GPA, ECAM_BYTES))),
    )
    serial = aml.device(
        "COM1",
        aml.named("_HID", aml.eisa_id("PNP0501")),
        aml.named("_UID", aml.integer(0)),
        aml.named("_CRS", aml.resources(aml.io_ports(SERIAL_PORT, 8), aml.interrupt(SERIAL_GSI))),
    )
    generation = aml.device(
        "VGEN",
        aml.named("_HID", aml.string("SMPN0001")),
        aml.named("_CID", aml.string(GENERATION_NAME)),
        aml.named("_DDN", aml.string(GENERATION_NAME)),
        aml.named("ADDR", aml.package(aml.integer(GENERATION_GPA), aml.integer(0))),
    )
    events = aml.device(
        "GED0",
        aml.named("_HID", aml.string("ACPI0013")),
        aml.named("_UID", aml.integer(0)),
        aml.named("_CRS", aml.resources(aml.interrupt(GENERATION_GSI))),
        aml.method("_EVT", 1, aml.notify("\\_SB.VGEN", GENERATION_CHANGED)),
    )
    s5 = aml.named("\\_S5", aml.package(aml.integer(SLEEP_TYPE_S5), aml.integer(0)))
    devices = (host_bridge, motherboard, serial, generation, events)
    return build_table(b"DSDT", 2, s5 + aml.scope("\\_SB", *devices))
