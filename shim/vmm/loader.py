"""The boot tables in guest memory.

`boot` builds their bytes; `address_map` says where they go.
"""

import os
from collections.abc import Sequence
from typing import Final

from shim.vmm.address_map import Range, place_window64
from shim.vmm.boot.acpi import build_acpi
from shim.vmm.boot.linux import build_boot_data
from shim.vmm.boot.x86 import build_gdt, build_page_tables
from shim.vmm.kvm.memory import GuestRam

RNG_SEED_BYTES: Final = 64


def load_boot_data(ram: GuestRam, ram_plan: Sequence[Range], vcpus: int, command_line: str) -> None:
    acpi = build_acpi(vcpus, place_window64(ram_plan))
    seed = os.urandom(RNG_SEED_BYTES)
    for blob in (
        build_gdt(),
        build_page_tables(),
        acpi.blob,
        *build_boot_data(ram_plan, command_line, acpi.rsdp_gpa, seed),
    ):
        ram.write(blob.gpa, blob.data)
