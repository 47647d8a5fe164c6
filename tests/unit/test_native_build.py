"""The options of compiler and linker for the C layer, checked in the files that they made."""

import re
import subprocess
from pathlib import Path

import pytest

from native.build import build_in_place, build_launcher

TREE = Path(__file__).resolve().parents[2]
SOURCES = TREE / "native/src"
ENDBR64 = b"\xf3\x0f\x1e\xfa"
DECLARED = re.compile(r"^[a-z][\w *]*?\b(\w+)\(", re.MULTILINE)
DEFINED_INLINE = re.compile(r"^static inline.*", re.MULTILINE)


def readelf(path: Path, *options: str) -> str:
    command = ["readelf", "--wide", *options, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=["module", "launcher"])
def binary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "module":
        return build_in_place()
    target = tmp_path_factory.mktemp("launcher") / "launcher"
    build_launcher(target)
    return target


def test_all_symbols_are_bound_before_their_table_is_made_read_only(binary: Path) -> None:
    assert "GNU_RELRO" in readelf(binary, "--segments")
    assert re.search(r"FLAGS.*(BIND_NOW|NOW)", readelf(binary, "--dynamic"))


def test_no_memory_is_writable_and_executable(binary: Path) -> None:
    segments = readelf(binary, "--segments")
    assert re.search(r"GNU_STACK .* RW +0x", segments)
    assert not re.search(r"LOAD .* RWE ", segments)


def test_the_stack_is_watched_and_copies_are_bounded(binary: Path) -> None:
    imported = readelf(binary, "--dyn-syms")
    assert "__stack_chk_fail" in imported
    assert re.search(r" __\w+_chk\b", imported)


def test_the_address_of_the_program_is_any(binary: Path) -> None:
    assert re.search(r"Type: +DYN", readelf(binary, "--file-header"))


def test_jumps_and_returns_are_checked_where_the_processor_can(binary: Path) -> None:
    assert "SHSTK" in readelf(binary, "--notes")
    name = "PyInit__native" if binary.suffix == ".so" else "main"
    entry = re.search(rf"([0-9a-f]+) +\d+ FUNC .* {name}$", readelf(binary, "--syms"), re.MULTILINE)
    assert entry is not None
    at = int(entry[1], 16)
    assert (
        binary.read_bytes()[at : at + 4] == ENDBR64
    )  # addresses of text are its offsets in the file


def test_the_module_gives_out_its_beginning_alone() -> None:
    exported = [
        line for line in readelf(build_in_place(), "--dyn-syms").splitlines() if "UND" not in line
    ]
    names = [line.split()[-1] for line in exported if re.search(r"FUNC|OBJECT", line)]
    assert names == ["PyInit__native"]


def functions_of(text: str) -> set[str]:
    return set(DECLARED.findall(DEFINED_INLINE.sub("", text)))


def test_python_calls_every_function_that_it_is_given() -> None:
    python = "".join(path.read_text() for path in (TREE / "shim/vmm").rglob("*.py"))
    given = {
        name
        for path in (TREE / "native/cdef").glob("*.h")
        for name in functions_of(path.read_text())
    }
    assert len(given) > 50
    assert [name for name in sorted(given) if not re.search(rf"\blib\.{name}\(", python)] == []


def test_python_uses_every_constant_that_it_is_given() -> None:
    python = "".join(path.read_text() for path in (TREE / "shim/vmm").rglob("*.py"))
    # The parts of a vCPU's state are accessed only by computed names.
    python = re.sub(r'"([A-Z_0-9]+)", "struct kvm', r'"KVM_GET_\1 KVM_SET_\1"', python)
    given = {
        name
        for path in (TREE / "native/cdef").glob("*.h")
        for name in re.findall(r"^#define (\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(given) > 50
    assert [name for name in sorted(given) if not re.search(rf"\b{name}\b", python)] == []


def test_every_function_of_the_c_layer_is_called() -> None:
    """It is used somewhere besides its declaration and its definition."""
    headers = {path: path.read_text() for path in SOURCES.rglob("*.h")}
    everything = "".join(path.read_text() for path in SOURCES.rglob("*.[ch]"))
    given = "".join(path.read_text() for path in (TREE / "native/cdef").glob("*.h"))
    unused = [
        name
        for text in headers.values()
        for name in functions_of(text)
        if len(re.findall(rf"\b{name}\b", everything)) <= 2 and name not in functions_of(given)
    ]
    assert unused == []
