"""What is known of a container between commands: ROOT/ID/state.json.

Owned by the container's server while that lives, then by `delete`.  A server that was
killed leaves a record that says otherwise; who reads it checks the server too.
"""

import errno
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from proto.contract import MAX_ID_BYTES
from shim.errors import AlreadyExists, HostResource, InvalidArgument, NotFound
from shim.host.pids import is_alive, load_identity
from shim.machine.directory import SandboxDirectory, SandboxKey, find_sandbox

DEFAULT_ROOT: Final = "/run/sampan-oci"
NAMESPACE: Final = "oci"
"""Of the sandboxes' keys: their containerd is the root directory."""
OCI_VERSION: Final = "1.2.0"
STATE_FILE: Final = "state.json"
LOG_FILE: Final = "log"
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
UNNAMED: Final = ".new-"
"""No id begins with a dot."""
TAKEN: Final = frozenset((errno.EEXIST, errno.ENOTEMPTY))
STOPPED: Final = "stopped"
ENDED_BY_US: Final = 137


@dataclass(frozen=True, slots=True)
class Record:
    root: str
    id: str
    bundle: str
    rootfs: str
    sandbox: str
    """The path of the sandbox's directory."""
    annotations: dict[str, str]
    created: str
    """RFC 3339."""
    pid: int = 0
    """Of the monitor."""
    status: str = "creating"
    """As of the runtime spec, and `paused`."""
    exit_status: int | None = None

    @property
    def directory(self) -> str:
        return f"{self.root}/{self.id}"

    @property
    def log(self) -> str:
        return f"{self.directory}/{LOG_FILE}"

    def save(self) -> None:
        temporary = f"{self.directory}/.{STATE_FILE}"
        self.write(temporary)
        os.rename(temporary, f"{self.directory}/{STATE_FILE}")

    def write(self, path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)

    def with_status(self, status: str, **changes: Any) -> Self:
        """Saved."""
        changed = replace(self, status=status, **changes)
        changed.save()
        return changed

    def describe(self) -> dict[str, Any]:
        """runtime.md "State", with what runc adds."""
        return {
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "pid": 0 if self.status == STOPPED else self.pid,
            "status": self.status,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
            "annotations": self.annotations,
            "owner": "",
        }


def check_id(container_id: str) -> str:
    """It becomes a name in directories, here and in the guest."""
    if len(container_id) > MAX_ID_BYTES or not ID.fullmatch(container_id):
        raise InvalidArgument(
            f"container id: expected up to {MAX_ID_BYTES} letters, digits, '_', '.', '+' and '-', "
            f"a letter or digit first, is {container_id[:MAX_ID_BYTES]!r}"
        )
    return container_id


def make_record(root: str, container_id: str, bundle: str, spec: dict[str, Any]) -> Record:
    """With its directory, which says that the name is taken."""
    sandbox = find_sandbox(SandboxKey(root, NAMESPACE, container_id))
    record = Record(
        root=root,
        id=container_id,
        bundle=bundle,
        rootfs=os.path.normpath(os.path.join(bundle, spec["root"]["path"])),
        sandbox=sandbox.path,
        annotations=spec.get("annotations") or {},
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    try:
        os.makedirs(root, mode=0o711, exist_ok=True)
        place_record(record)
    except OSError as error:
        if error.errno in TAKEN:
            raise AlreadyExists(f"container {container_id!r}: one with this id exists") from error
        raise HostResource(f"{record.directory}: {error.strerror}") from error
    return record


def place_record(record: Record) -> None:
    """The directory gets its name when the file is in it: no name is taken by nobody."""
    unnamed = f"{record.root}/{UNNAMED}{os.getpid()}"
    os.mkdir(unnamed, mode=0o700)
    try:
        record.write(f"{unnamed}/{STATE_FILE}")
        os.rename(unnamed, record.directory)
    except OSError:
        os.unlink(f"{unnamed}/{STATE_FILE}")
        os.rmdir(unnamed)
        raise


def remove_record(record: Record) -> None:
    """Idempotent."""
    for name in (f".{STATE_FILE}", STATE_FILE, LOG_FILE):
        try:
            os.unlink(f"{record.directory}/{name}")
        except FileNotFoundError:
            continue
    try:
        os.rmdir(record.directory)
    except FileNotFoundError:
        return


def load_record(root: str, container_id: str) -> Record:
    """As it is now: stopped, if its server is no longer there."""
    path = f"{root}/{check_id(container_id)}/{STATE_FILE}"
    try:
        with open(path, encoding="utf-8") as file:
            record = Record(**{**json.load(file), "root": root})
    except FileNotFoundError as error:
        raise NotFound(f"container {container_id!r}: container does not exist") from error
    except (OSError, ValueError, TypeError) as error:
        raise HostResource(f"{path}: {error}") from error
    if record.status != STOPPED and not is_served(record):
        return replace(record, status=STOPPED, exit_status=ENDED_BY_US)
    return record


def is_served(record: Record) -> bool:
    server = load_identity(SandboxDirectory(record.sandbox).shim_pid)
    return server is not None and is_alive(server)


def list_records(root: str) -> Iterator[Record]:
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for name in names:
        try:
            yield load_record(root, name)
        except (NotFound, HostResource, InvalidArgument):
            continue  # being made or deleted just now
