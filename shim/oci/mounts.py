"""Which of a container's mounts the guest makes by itself, and which need a share.

Pure: a bind mount's source is a path that is not opened.  Bind mounts become
volumes of the sandbox, numbered in their order; objects of a kernel (devices,
/proc, /sys, shared memory) are taken from the guest's kernel.
OCI runtime spec config.md "Mounts".
"""

import posixpath
from dataclasses import dataclass
from typing import Any, Final

from proto.contract import GUEST_ROOTFS_DIR, GUEST_VOLUMES_DIR
from shim.errors import InvalidArgument
from shim.oci.annotations import EXCLUSIVE_ANNOTATION

GUEST_TYPES: Final = frozenset(
    ("cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "proc", "sysfs", "tmpfs", "ramfs")
)
GUEST_TREES: Final = ("/dev", "/proc", "/sys")
"""Bind mounts from below these mean the kernel's own objects, never files to share."""
SHARED_MEMORY: Final = "/dev/shm"
"""CRI and docker bind a tmpfs of the host, named shm, to it: the guest makes its own."""
SHARED_MEMORY_OPTIONS: Final = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]
BIND_OPTIONS: Final = frozenset(("bind", "rbind"))
READ_ONLY_OPTIONS: Final = frozenset(("ro", "rro"))


@dataclass(frozen=True, slots=True)
class Volume:
    """A bind mount's source on the host, to be shared with the guest."""

    number: int
    source: str
    read_only: bool
    recursive: bool
    field: str
    """Where the spec names it, for errors."""
    exclusive: bool = False
    """Cached in the guest as a root file system is, and below the same share."""

    def name(self, container_id: str) -> str:
        """The path below its share.  No container's id has an @."""
        return f"{container_id}{'@' if self.exclusive else '/'}{self.number}"

    def guest_path(self, container_id: str) -> str:
        share = GUEST_ROOTFS_DIR if self.exclusive else GUEST_VOLUMES_DIR
        return f"{share}/{self.name(container_id)}"


def translate_mounts(
    mounts: list[dict[str, Any]], container_id: str, bundle: str, exclusive: str = ""
) -> tuple[list[dict[str, Any]], tuple[Volume, ...]]:
    """The guest's list of mounts, and the volumes that it refers to.  `exclusive`: what
    EXCLUSIVE_ANNOTATION says."""
    alone = find_exclusive(exclusive, mounts)
    translated: list[dict[str, Any]] = []
    volumes: list[Volume] = []
    for index, mount in enumerate(mounts):
        field = f"mounts[{index}]"
        options = mount.get("options") or []
        if mount.get("type") == "bind" or not BIND_OPTIONS.isdisjoint(options):
            made = translate_bind(mount, field, bundle, len(volumes), alone)
            if isinstance(made, Volume):
                volumes.append(made)
                made = {**mount, "source": made.guest_path(container_id)}
            translated.append(made)
        elif mount.get("type") in GUEST_TYPES:
            translated.append(mount)
        else:
            raise InvalidArgument(
                f"{field}.type: {mount.get('type')!r} of {mount.get('source')!r}: a microVM takes "
                f"bind mounts and the kernel's own file systems ({', '.join(sorted(GUEST_TYPES))})"
            )
    return translated, tuple(volumes)


def find_exclusive(text: str, mounts: list[dict[str, Any]]) -> frozenset[str]:
    wanted = [posixpath.normpath(path.strip()) for path in text.split(",") if path.strip()]
    there = {posixpath.normpath(mount["destination"]) for mount in mounts}
    for path in wanted:
        if path not in there:
            raise InvalidArgument(
                f"annotations[{EXCLUSIVE_ANNOTATION}]: nothing is mounted at {path!r}"
            )
    return frozenset(wanted)


def translate_bind(
    mount: dict[str, Any], field: str, bundle: str, number: int, exclusive: frozenset[str]
) -> Volume | dict[str, Any]:
    """A volume; or the mount itself, if its source is an object of the guest's kernel."""
    if mount.get("uidMappings") or mount.get("gidMappings"):
        raise InvalidArgument(f"{field}: ID-mapped bind mounts are not supported")
    source = mount.get("source") or ""
    if not source:
        raise InvalidArgument(f"{field}.source: expected the path of a file or directory, is ''")
    source = posixpath.normpath(posixpath.join(bundle, source))
    options = mount.get("options") or []
    if mount["destination"] == SHARED_MEMORY and posixpath.basename(source) == "shm":
        return {
            "destination": SHARED_MEMORY,
            "type": "tmpfs",
            "source": "shm",
            "options": SHARED_MEMORY_OPTIONS,
        }
    if is_below(source, GUEST_TREES):
        return {**mount, "source": source}
    return Volume(
        number=number,
        source=source,
        read_only=not READ_ONLY_OPTIONS.isdisjoint(options),
        recursive="bind" not in options,
        field=f"{field}.source",
        exclusive=posixpath.normpath(mount["destination"]) in exclusive,
    )


def is_below(path: str, trees: tuple[str, ...]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)
