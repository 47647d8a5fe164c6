"""A sandbox's directory on the host: its name, its contents, its end.

    /run/sampan/<24 hex digits>/     0700
        shim.sock shim.pid           the server, and who it is
        vmm.pid                      the machine
        agent.sock events.sock       the way to its agent: gRPC, and what it tells by itself
        console.log counters.json
        cgroup network.json          notes of what `delete` removes on the host
        tree/ scratch/               for short-lived mounts, in a mount namespace of
                                     the server's: see shim/machine/shares.py
        sandbox.json                 which sandbox this is, for people and `sampan`

No guest, and no vmm in its jail, can see anything in here.

Synchronous.  `start` and `delete` import it, and their time is part of a container's
start and end: so it imports nothing that takes milliseconds (no dataclasses,
pathlib, shutil, typing).
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress

DEFAULT_STATE_DIR = "/run/sampan"
STATE_VARIABLE = "SAMPAN_STATE_DIR"
NAME_DIGITS = 24
"""Keeps socket paths far below the 108 bytes of sockaddr_un."""


class SandboxKey:
    """One sandbox of one namespace of one containerd."""

    __slots__ = ("containerd", "namespace", "sandbox_id")

    def __init__(self, containerd: str, namespace: str, sandbox_id: str) -> None:
        self.containerd = containerd
        self.namespace = namespace
        self.sandbox_id = sandbox_id

    @property
    def digest(self) -> str:
        name = "/".join((self.containerd, self.namespace, self.sandbox_id))
        return hashlib.sha256(name.encode()).hexdigest()[:NAME_DIGITS]

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self.__slots__}


class SandboxDirectory:
    """Names only: nothing exists before `create`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = f"{path}/shim.sock"
        self.address = f"unix://{self.socket}"
        self.shim_pid = f"{path}/shim.pid"
        self.vmm_pid = f"{path}/vmm.pid"
        self.agent_socket = f"{path}/agent.sock"
        self.events_socket = f"{path}/events.sock"
        self.console = f"{path}/console.log"
        self.counters = f"{path}/counters.json"
        self.network = f"{path}/network.json"
        self.cgroup = f"{path}/cgroup"
        self.tree = f"{path}/tree"
        self.scratch = f"{path}/scratch"
        self.description = f"{path}/sandbox.json"

    def create(self, key: SandboxKey) -> None:
        """FileExistsError when there is one of this name already."""
        os.makedirs(os.path.dirname(self.path), mode=0o711, exist_ok=True)
        os.mkdir(self.path, mode=0o700)
        os.mkdir(self.tree)
        os.mkdir(self.scratch)
        with open(self.description, "w", encoding="utf-8") as description:
            json.dump(key.to_json(), description)

    def take_over(self, other: "SandboxDirectory") -> None:
        """Moves a machine's files here from `other`, then removes that; open ones stay open."""
        for name in ("console.log", "agent.sock", "events.sock", "vmm.pid"):
            os.rename(f"{other.path}/{name}", f"{self.path}/{name}")
        other.remove()

    def remove(self) -> None:
        """Removes everything; idempotent.

        Hazard: something may still be mounted on a directory in here.  None is entered,
        and only empty ones are removed.
        """
        try:
            directory = os.open(self.path, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            for name in os.listdir(directory):
                remove_entry(name, directory)
        finally:
            os.close(directory)
        with suppress(OSError):  # something could not be removed
            os.rmdir(self.path)


def remove_entry(name: str, directory: int) -> None:
    """A file, or an empty directory; everything else stays."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        with suppress(OSError):  # mounted, or filled
            os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        return


def list_directory(directory: str) -> list[str]:
    try:
        return [os.path.join(directory, name) for name in os.listdir(directory)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def state_dir() -> str:
    return os.environ.get(STATE_VARIABLE) or DEFAULT_STATE_DIR


def find_sandbox(key: SandboxKey) -> SandboxDirectory:
    return SandboxDirectory(f"{state_dir()}/{key.digest}")


def list_sandboxes() -> Iterator[tuple[SandboxKey, SandboxDirectory]]:
    """Every sandbox whose sandbox.json is written."""
    for path in sorted(list_directory(state_dir())):
        sandbox = SandboxDirectory(path)
        try:
            with open(sandbox.description, encoding="utf-8") as description:
                key = SandboxKey(**json.load(description))
        except (OSError, ValueError, TypeError):
            continue
        yield key, sandbox
