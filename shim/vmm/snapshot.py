"""A snapshot of a stopped machine as two files: `memory`, and `state.json`.

A third one, `working_set`, exists if a trial clone has run: the working set, which later
clones map early.  Each clone reads it: it is an array that native code uses
unchanged.

Owns the format.  Bytes of KVM and of the devices are stored unchanged, in
base64; only their source knows what they mean.
"""

import json
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from typing import Any, Final

from proto.contract import MEMORY_FILE, STATE_FILE, WORKING_SET_FILE
from shim.errors import HostResource
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.memory_image import Run, map_memory, save_memory
from shim.vmm.kvm.part import PartState
from shim.vmm.kvm.working_set import RANGE, TouchedPages, pack_working_set

FORMAT: Final = 2

MachineState = dict[str, PartState]
"""All state but memory: by the parts' names, in the order in which they are restored."""


def write_snapshot(
    memory_fd: int, state_fd: int, state: MachineState, ram: GuestRam, pagemap_fd: int
) -> None:
    """Writes two empty files, whose descriptors stay the caller's."""
    runs = save_memory(ram, memory_fd, pagemap_fd)
    parts = {name: encode(part) for name, part in state.items()}
    document = {"format": FORMAT, "runs": runs, "parts": parts}
    write_all(state_fd, json.dumps(document).encode())


def write_working_set(fd: int, touched: Iterable[TouchedPages]) -> None:
    write_all(fd, pack_working_set(touched))


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def read_working_set(directory: str) -> bytes | None:
    """None if no trial clone has run."""
    path = f"{directory}/{WORKING_SET_FILE}"
    try:
        with open(path, "rb") as file:
            packed = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostResource(f"{path}: {error.strerror}") from error
    if len(packed) % RANGE.size:
        raise HostResource(f"{path}: {len(packed)} bytes are not a list of pages")
    return packed


class Snapshot:
    """Read when made, and keeps its files open; `map` once there is guest memory, and
    `close` after that."""

    def __init__(self, directory: str) -> None:
        self.working_set = read_working_set(directory)
        self.memory_path = f"{directory}/{MEMORY_FILE}"
        path = f"{directory}/{STATE_FILE}"
        try:
            with open(path) as file:
                document = json.load(file)
            self.runs = [Run(*run) for run in document["runs"]]
            self.state = parse_state(document)
        except OSError as error:
            raise HostResource(f"{path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HostResource(f"{path}: not a machine's state: {error!r}") from error
        self.files: dict[str, int] = {}
        try:
            for name in {self.memory_path, *(run.path for run in self.runs if run.path)}:
                self.files[name] = open_file(name)
            self.check_size()
        except BaseException:
            self.close()
            raise

    def check_size(self) -> None:
        end = max((run.offset + run.length for run in self.runs if not run.path), default=0)
        size = os.fstat(self.files[self.memory_path]).st_size
        if size != end:
            raise HostResource(f"{self.memory_path}: has {size} bytes, {end} were saved")

    def map(self, ram: GuestRam) -> None:
        """Hazard: the file must stay as it is while a clone lives (SIGBUS)."""
        map_memory(ram, self.runs, self.memory_path, self.files)

    def close(self) -> None:
        while self.files:
            os.close(self.files.popitem()[1])


def open_file(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostResource(f"{path}: {error.strerror}") from error


def parse_state(document: dict[str, Any]) -> MachineState:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}, not {FORMAT}")
    return {name: decode(part) for name, part in document["parts"].items()}


def encode(state: PartState) -> dict[str, str]:
    return {name: b2a_base64(data, newline=False).decode() for name, data in state.items()}


def decode(state: dict[str, str]) -> PartState:
    return {name: a2b_base64(text, strict_mode=True) for name, text in state.items()}
