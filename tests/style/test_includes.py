"""The direction of includes in the C layer: one table, which every file keeps to."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "native/src"
INCLUDE = re.compile(r'^#include "(.*)"$', re.MULTILINE)

MODEL = ("memory/*", "virtio/virtqueue.h", "virtio/device.h", "virtio/worker.h", "jail/*")
"""What a device model stands on: it knows no transport."""

ALLOWED = {
    "jail/*": (),
    "memory/*": (),
    "platform/*": (),
    "kvm/*": ("memory/*", "jail/*", "platform/bus.h", "platform/events.h"),
    "virtio/worker.*": ("jail/*", "virtio/sources.h"),
    "virtio/sources.*": (),
    "virtio/virtqueue.*": ("memory/*",),
    "virtio/device.*": ("virtio/virtqueue.h",),
    "virtio/*": ("memory/*", "platform/bus.h", "platform/events.h", "kvm/*"),
    "balloon/*": MODEL,
    "net/*": MODEL,
    "vsock/*": MODEL,
    "fuse/device.*": MODEL,
    "fuse/*": ("memory/iovec.h",),
}
"""Of what other folders have: the first line that fits counts.  A folder's files include
each other, but for the modules that have a line of their own."""

NARROW = ("virtio/worker.*", "virtio/sources.*", "virtio/virtqueue.*", "virtio/device.*")
"""They do not include what else is in their folder, but what their line says."""


def list_files() -> list[Path]:
    return sorted(SOURCES.rglob("*.[ch]"))


def is_allowed(name: str, included: str) -> bool:
    rule = next(pattern for pattern in ALLOWED if fnmatch(name, pattern))
    module, folder = name.rsplit(".", 1)[0], name.split("/", maxsplit=1)[0]
    if included == f"{module}.h" or any(fnmatch(included, path) for path in ALLOWED[rule]):
        return True
    return included.startswith(f"{folder}/") and rule not in NARROW and included != "fuse/device.h"


@pytest.mark.parametrize("path", list_files(), ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_file_includes_only_what_its_folder_stands_on(path: Path) -> None:
    name = str(path.relative_to(SOURCES))
    included = INCLUDE.findall(path.read_text())
    assert [header for header in included if not is_allowed(name, header)] == []


def test_every_line_of_the_table_is_used() -> None:
    names = [str(path.relative_to(SOURCES)) for path in list_files()]
    used = {next(p for p in ALLOWED if fnmatch(name, p)) for name in names}
    assert used == set(ALLOWED)


@pytest.mark.parametrize(
    ("name", "included"),
    [
        ("memory/memory.h", "virtio/virtqueue.h"),
        ("virtio/virtqueue.c", "virtio/pci.h"),
        ("virtio/pci.c", "fuse/device.h"),
        ("kvm/vcpu.c", "virtio/pci_window.h"),
        ("net/device.c", "vsock/device.h"),
        ("net/device.c", "virtio/pci.h"),
        ("fuse/node.c", "virtio/virtqueue.h"),
        ("fuse/node.c", "fuse/device.h"),
    ],
)
def test_the_table_forbids(name: str, included: str) -> None:
    assert not is_allowed(name, included)


def test_no_header_includes_itself_by_a_detour() -> None:
    includes = {
        str(path.relative_to(SOURCES)): INCLUDE.findall(path.read_text())
        for path in list_files()
        if path.suffix == ".h"
    }
    seen: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in seen:
            for included in includes[name]:
                visit(included, (*above, name))
            seen.add(name)

    for name in includes:
        visit(name, ())
