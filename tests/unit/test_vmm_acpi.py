"""ACPI tables: lengths, checksums and pointers as an operating system walks them."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from shim.vmm.address_map import (
    ACPI_BYTES,
    ACPI_GPA,
    ECAM_GPA,
    GENERATION_GPA,
    GENERATION_GSI,
    GIB,
    Gpa,
    Range,
)
from shim.vmm.boot import acpi, aml

WINDOW64 = Range(Gpa(64 * GIB), 64 * GIB)


def walk_tables(vcpus: int) -> dict[str, bytes]:
    """From the RSDP through XSDT and FADT to every table, checking each on the way."""
    tables = acpi.build_acpi(vcpus, WINDOW64)
    memory = tables.blob.data

    def read_table(gpa: int) -> bytes:
        start = gpa - ACPI_GPA
        length = struct.unpack_from("<I", memory, start + 4)[0]
        table = memory[start : start + length]
        assert len(table) == length
        assert sum(table) % 256 == 0
        return table

    rsdp = memory[tables.rsdp_gpa - ACPI_GPA :][:36]
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp[:20]) % 256 == 0
    assert sum(rsdp) % 256 == 0
    xsdt = read_table(struct.unpack_from("<Q", rsdp, 24)[0])
    found = [read_table(pointer) for (pointer,) in struct.iter_unpack("<Q", xsdt[36:])]
    named = {table[:4].decode(): table for table in [xsdt, *found]}
    named["DSDT"] = read_table(struct.unpack_from("<Q", named["FACP"], 140)[0])
    return named


def test_every_table_is_reached_and_sums_to_zero() -> None:
    assert set(walk_tables(1)) == {"XSDT", "FACP", "APIC", "MCFG", "DSDT"}


def test_the_madt_lists_each_vcpu_once_with_its_apic_id() -> None:
    madt = walk_tables(3)["APIC"]
    entries, offset = [], 44
    while offset < len(madt):
        kind, length = madt[offset], madt[offset + 1]
        entries.append((kind, madt[offset : offset + length]))
        offset += length
    assert [entry[3] for kind, entry in entries if kind == acpi.MADT_LOCAL_APIC] == [0, 1, 2]
    assert sum(kind == acpi.MADT_IO_APIC for kind, _ in entries) == 1


def test_the_most_vcpus_fit() -> None:
    assert len(walk_tables(254)["APIC"]) == 44 + 254 * 8 + 12
    assert ACPI_GPA + len(acpi.build_acpi(254, WINDOW64).blob.data) <= GENERATION_GPA
    assert GENERATION_GPA + 16 <= ACPI_GPA + ACPI_BYTES


def test_the_mcfg_has_the_ecam_window_of_bus_zero_alone() -> None:
    assert struct.unpack_from("<QHBB", walk_tables(1)["MCFG"], 44) == (ECAM_GPA, 0, 0, 0)


def disassemble(table: bytes, directory: Path) -> str:
    binary = directory / "table.aml"
    binary.write_bytes(table)
    ran = subprocess.run(["iasl", "-d", binary], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "error" not in ran.stderr.lower()
    return binary.with_suffix(".dsl").read_text()


@pytest.mark.skipif(shutil.which("iasl") is None, reason="needs iasl (acpica-tools)")
class TestDisassembly:
    """ACPICA, which Linux also uses, reads the tables."""

    @pytest.mark.parametrize("name", ["FACP", "APIC", "MCFG", "DSDT"])
    def test_each_table_disassembles(self, name: str, tmp_path: Path) -> None:
        assert name in disassemble(walk_tables(2)[name], tmp_path)

    def test_the_host_bridge_has_one_bus_and_both_windows(self, tmp_path: Path) -> None:
        text = disassemble(walk_tables(1)["DSDT"], tmp_path)
        assert 'EisaId ("PNP0A08")' in text
        assert text.count("WordBusNumber") == 1
        assert text.count("DWordMemory") == 1
        assert text.count("QWordMemory") == 1

    def test_a_new_generation_is_an_event_of_its_device(self, tmp_path: Path) -> None:
        text = disassemble(walk_tables(1)["DSDT"], tmp_path)
        generation = text[text.index("Device (VGEN)") : text.index("Device (GED0)")]
        assert 'Name (_CID, "VM_Gen_Counter")' in generation
        low, high = re.findall(r"0x[0-9A-F]+|Zero", generation[generation.index("ADDR") :])[1:3]
        assert (int(low, 16), high) == (GENERATION_GPA, "Zero")
        events = text[text.index("Device (GED0)") :]
        assert f"0x{GENERATION_GSI:08X}," in events
        assert "Method (_EVT, 1, NotSerialized)" in events
        assert "Notify (\\_SB.VGEN, 0x80)" in events

    def test_the_fadt_tells_of_no_legacy_device(self, tmp_path: Path) -> None:
        text = disassemble(walk_tables(1)["FACP"], tmp_path)
        for line in (
            "Hardware Reduced (V5) : 1",
            "CMOS RTC Not Present (V5) : 1",
            "VGA Not Present (V4) : 1",
            "8042 Present on ports 60/64 (V2) : 0",
            "Reset Register Supported (V2) : 1",
        ):
            assert line in text


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (1, "01"), (2, "0a02"), (0xFF, "0aff"), (0x100, "0b0001"), (0x10000, "0c00000100"),
     (1 << 32, "0e0000000001000000")],
)  # fmt: skip
def test_integers_take_the_shortest_form(value: int, encoded: str) -> None:
    """ACPI 6.5 §20.2.3."""
    assert aml.integer(value).hex() == encoded


@pytest.mark.parametrize("length", [0, 62, 63, 4092, 4093, 1 << 19])
def test_pkg_length_counts_itself(length: int) -> None:
    """ACPI 6.5 §20.2.4, read back by its own rule at every change of width."""
    encoded = aml.with_length(bytes(length))
    extra = encoded[0] >> 6
    total = encoded[0] & (0x0F if extra else 0x3F)
    for index in range(extra):
        total |= encoded[1 + index] << 4 + 8 * index
    assert total == len(encoded) == length + 1 + extra


def test_a_name_longer_than_four_letters_is_refused() -> None:
    with pytest.raises(ValueError, match="TOOLONG"):
        aml.name_string("TOOLONG")


def test_eisa_ids_are_as_acpica_writes_them() -> None:
    assert aml.eisa_id("PNP0A08").hex() == "0c41d00a08"
