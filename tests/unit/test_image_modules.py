"""Kernel modules: dependencies read from .modinfo, load order, what is built in."""

import lzma
import struct
from pathlib import Path

import pytest

from image.errors import FormatError
from image.modules import (
    ELF_HEADER,
    SECTION_HEADER,
    parse_depends,
    read_section,
    select_modules,
)


def make_module(depends: str) -> bytes:
    """An ELF64 relocatable with a .modinfo section and nothing else."""
    modinfo = b"license=GPL\0depends=" + depends.encode() + b"\0name=x\0"
    names = b"\0.modinfo\0.shstrtab\0"
    table = ELF_HEADER.size + len(modinfo) + len(names)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ELF_HEADER.pack(ident, 1, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    sections = [
        bytes(SECTION_HEADER.size),
        SECTION_HEADER.pack(1, 1, 0, 0, ELF_HEADER.size, len(modinfo), 0, 0, 1, 0),
        SECTION_HEADER.pack(10, 3, 0, 0, ELF_HEADER.size + len(modinfo), len(names), 0, 0, 1, 0),
    ]
    return header + modinfo + names + b"".join(sections)


@pytest.fixture
def modules_dir(tmp_path: Path) -> Path:
    """A /lib/modules/RELEASE: top needs middle-part and base; middle_part needs base."""
    kernel = tmp_path / "kernel" / "net"
    kernel.mkdir(parents=True)
    (kernel / "top.ko").write_bytes(make_module("middle_part,base"))
    (kernel / "middle-part.ko.xz").write_bytes(lzma.compress(make_module("base,inside")))
    (kernel / "base.ko").write_bytes(make_module(""))
    (tmp_path / "modules.builtin").write_text("kernel/lib/inside.ko\n")
    return tmp_path


def test_dependencies_come_before_what_needs_them(modules_dir: Path) -> None:
    names = [module.name for module in select_modules(modules_dir, ["top", "base"])]
    assert names == ["base", "middle_part", "top"]


def test_modules_are_decompressed(modules_dir: Path) -> None:
    modules = select_modules(modules_dir, ["middle_part"])
    assert all(module.content.startswith(b"\x7fELF") for module in modules)


def test_a_module_that_is_built_in_is_left_out(modules_dir: Path) -> None:
    assert select_modules(modules_dir, ["inside"]) == []


def test_a_module_that_is_nowhere_is_named(modules_dir: Path) -> None:
    with pytest.raises(FormatError, match="no module vsock, and it is not built in"):
        select_modules(modules_dir, ["vsock"])


def test_modules_that_need_each_other_end_the_search(tmp_path: Path) -> None:
    (tmp_path / "a.ko").write_bytes(make_module("b"))
    (tmp_path / "b.ko").write_bytes(make_module("a"))
    names = [module.name for module in select_modules(tmp_path, ["a"])]
    assert names == ["b", "a"]


def test_depends_is_empty_when_it_is_absent() -> None:
    assert parse_depends(b"license=GPL\0") == ()
    assert parse_depends(b"depends=\0") == ()


@pytest.mark.parametrize("length", range(0, 200, 7))
def test_a_cut_module_is_refused_at_any_length(length: int) -> None:
    with pytest.raises(FormatError):
        read_section(make_module("base")[:length], b".modinfo", "cut.ko")


def test_a_section_that_reaches_past_the_file_is_refused() -> None:
    module = bytearray(make_module("base"))
    table = struct.unpack_from("<Q", module, 40)[0]
    struct.pack_into("<Q", module, table + SECTION_HEADER.size + 32, 1 << 40)
    with pytest.raises(FormatError, match="outside the file"):
        read_section(bytes(module), b".modinfo", "long.ko")


def test_damaged_xz_data_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.ko.xz").write_bytes(b"\xfd7zXZ\0damaged")
    with pytest.raises(FormatError, match=r"bad\.ko\.xz: damaged"):
        select_modules(tmp_path, ["bad"])
