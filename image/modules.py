"""Chooses kernel modules and puts them in load order.

A Debian kernel package has no modules.dep before depmod has run, so the order
comes from the modules themselves: the `depends=` entry of the ELF section
.modinfo.  Parsing is pure and bounded by the file.
"""

import lzma
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image.errors import FormatError

GUEST_MODULES: Final = (
    "vmw_vsock_virtio_transport",
    "overlay",
    "virtio_net",
    "virtio_balloon",
    "ptp_kvm",
)
"""Loaded by the agent, at boot or later; what they depend on is added."""

CACHED_DIR: Final = "modules"
"""The directory beside a cached vmlinux with its /lib/modules."""

ELF_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
SECTION_HEADER: Final = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr
ELF64_LITTLE: Final = b"\x7fELF\x02\x01"


@dataclass(frozen=True)
class Module:
    """One module, decompressed."""

    name: str
    content: bytes
    depends: tuple[str, ...]


def read_section(content: bytes, wanted: bytes, name: str) -> bytes:
    """The bytes of an ELF64 section; FormatError when it is absent or out of bounds."""
    try:
        header = ELF_HEADER.unpack_from(content)
        if not content.startswith(ELF64_LITTLE):
            raise FormatError(f"{name}: not a little-endian ELF64 file")
        table, count, names_index = header[6], header[12], header[13]
        headers = [
            SECTION_HEADER.unpack_from(content, table + index * SECTION_HEADER.size)
            for index in range(count)
        ]
        names = slice_section(content, headers[names_index], name)
        for section in headers:
            if names[section[0] :].split(b"\0", 1)[0] == wanted:
                return slice_section(content, section, name)
    except (struct.error, IndexError) as error:
        raise FormatError(f"{name}: its ELF headers point outside the file") from error
    raise FormatError(f"{name}: no section {wanted.decode()}")


def slice_section(content: bytes, section: tuple[int, ...], name: str) -> bytes:
    offset, size = section[4], section[5]
    if offset + size > len(content):
        raise FormatError(f"{name}: section of {size} bytes at {offset} is outside the file")
    return content[offset : offset + size]


def parse_depends(modinfo: bytes) -> tuple[str, ...]:
    """The modules that .modinfo says have to be loaded before."""
    for entry in modinfo.split(b"\0"):
        key, _, value = entry.partition(b"=")
        if key == b"depends":
            return tuple(canonical(word) for word in value.decode("ascii").split(",") if word)
    return ()


def canonical(name: str) -> str:
    """Module names use '_' where their files may use '-'."""
    return name.replace("-", "_")


def index_modules(directory: Path) -> dict[str, Path]:
    """Every module file below a /lib/modules/RELEASE directory, by name."""
    return {
        canonical(path.name.split(".ko", 1)[0]): path
        for path in sorted(directory.rglob("*.ko*"))
        if path.is_file()
    }


def read_builtin(directory: Path) -> frozenset[str]:
    """Modules that are part of the kernel itself."""
    listing = directory / "modules.builtin"
    if not listing.exists():
        return frozenset()
    names = (Path(line.strip()).name for line in listing.read_text().splitlines())
    return frozenset(canonical(name.removesuffix(".ko")) for name in names)


def load_module(name: str, path: Path) -> Module:
    content = path.read_bytes()
    if path.suffix == ".xz":
        try:
            content = lzma.decompress(content)
        except lzma.LZMAError as error:
            raise FormatError(f"{path.name}: damaged xz data: {error}") from error
    elif path.suffix != ".ko":
        raise FormatError(f"{path.name}: compression {path.suffix} is not supported")
    return Module(name, content, parse_depends(read_section(content, b".modinfo", path.name)))


def order_modules(wanted: Sequence[str], load: Callable[[str], Module | None]) -> list[Module]:
    """`wanted` and all modules that they need, each after those it depends on.

    `load` returns None for a module that is built into the kernel.
    """
    ordered: dict[str, Module] = {}
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        module = load(name)
        if module is None:
            return
        for dependency in module.depends:
            visit(dependency)
        ordered[name] = module

    for name in wanted:
        visit(name)
    return list(ordered.values())


def select_modules(directory: Path, wanted: Sequence[str] = GUEST_MODULES) -> list[Module]:
    """From a /lib/modules/RELEASE directory; FormatError names a module it lacks."""
    files: Mapping[str, Path] = index_modules(directory)
    builtin = read_builtin(directory)

    def load(name: str) -> Module | None:
        if name in builtin:
            return None
        if name not in files:
            raise FormatError(f"{directory}: no module {name}, and it is not built in")
        return load_module(name, files[name])

    return order_modules(wanted, load)
