"""The map of guest-physical memory and I/O ports.

Pure: constants and the arithmetic on them.  The machine is a PC without
firmware: RAM from 0 up to the PCI hole at 3 GiB and again from 4 GiB; in the hole
the PCI windows and the interrupt controllers at their customary addresses.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, NewType

from shim.errors import InvalidArgument

Gpa = NewType("Gpa", int)
"""A guest-physical address."""

MIB: Final = 1 << 20
GIB: Final = 1 << 30
PAGE_BYTES: Final = 4096

# --- the first MiB: what the loader hands to the kernel ----------------------------
GDT_GPA: Final = Gpa(0x500)
ZERO_PAGE_GPA: Final = Gpa(0x7000)
STACK_TOP_GPA: Final = Gpa(0x8FF0)
PAGE_TABLES_GPA: Final = Gpa(0x9000)
COMMAND_LINE_GPA: Final = Gpa(0x20000)
SETUP_DATA_GPA: Final = Gpa(0x30000)
LOW_RAM_END_GPA: Final = Gpa(0x9FC00)
ACPI_GPA: Final = Gpa(0xE0000)
ACPI_BYTES: Final = 0x20000
GENERATION_GPA: Final = Gpa(ACPI_GPA + ACPI_BYTES - PAGE_BYTES)
"""The generation number, after the tables, in the page that is written for each clone."""
KERNEL_MIN_GPA: Final = Gpa(MIB)

# --- the hole from 3 GiB to 4 GiB ----------------------------------------------------
PCI_WINDOW_GPA: Final = Gpa(3 * GIB)
PCI_WINDOW_BYTES: Final = 512 * MIB
ECAM_GPA: Final = Gpa(PCI_WINDOW_GPA + PCI_WINDOW_BYTES)
ECAM_BYTES: Final = MIB
"""One bus: 32 devices of 8 functions of 4 KiB."""
IOAPIC_GPA: Final = Gpa(0xFEC00000)
LAPIC_GPA: Final = Gpa(0xFEE00000)
IDENTITY_MAP_GPA: Final = Gpa(0xFFFBC000)
"""Intel without unrestricted guest mode needs a page, and after it three more
for a TSS (KVM_SET_IDENTITY_MAP_ADDR, KVM_SET_TSS_ADDR)."""
TSS_GPA: Final = Gpa(IDENTITY_MAP_GPA + PAGE_BYTES)
HIGH_RAM_GPA: Final = Gpa(4 * GIB)

PCI_WINDOW64_BYTES: Final = 64 * GIB

# --- I/O ports and interrupts ---------------------------------------------------------
SERIAL_PORT: Final = 0x3F8
SERIAL_GSI: Final = 4
GENERATION_GSI: Final = 5
SLEEP_CONTROL_PORT: Final = 0x600
SLEEP_STATUS_PORT: Final = 0x601
RESET_PORT: Final = 0x604
RESET_VALUE: Final = 1
SLEEP_TYPE_S5: Final = 5
IOAPIC_GSIS: Final = 24
"""GSIs from here on are message-signalled interrupts of PCI devices."""

MIN_MEMORY_BYTES: Final = 64 * MIB
MAX_MEMORY_BYTES: Final = 256 * GIB
"""Leaves the 64-bit PCI window below 2^39, which every processor can address."""


class Range(NamedTuple):
    gpa: Gpa
    length: int

    @property
    def end(self) -> int:
        return self.gpa + self.length


def plan_ram(memory_bytes: int) -> tuple[Range, ...]:
    """The ranges that hold `memory_bytes` of RAM, rounded down to whole pages."""
    if not MIN_MEMORY_BYTES <= memory_bytes <= MAX_MEMORY_BYTES:
        raise InvalidArgument(
            f"memory_bytes is {memory_bytes}: "
            f"must be between {MIN_MEMORY_BYTES} and {MAX_MEMORY_BYTES}"
        )
    memory_bytes -= memory_bytes % PAGE_BYTES
    if memory_bytes <= PCI_WINDOW_GPA:
        return (Range(Gpa(0), memory_bytes),)
    return (
        Range(Gpa(0), PCI_WINDOW_GPA),
        Range(HIGH_RAM_GPA, memory_bytes - PCI_WINDOW_GPA),
    )


def place_window64(ram: Sequence[Range]) -> Range:
    """The 64-bit PCI window: above all RAM, aligned to its size."""
    end = max(HIGH_RAM_GPA, ram[-1].end)
    return Range(Gpa(-(-end // PCI_WINDOW64_BYTES) * PCI_WINDOW64_BYTES), PCI_WINDOW64_BYTES)
