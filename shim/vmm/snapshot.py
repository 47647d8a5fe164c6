"""A stopped machine as two files: `memory`, and `state.json` that says how to go on.

A third one, `touched`, is there when a clone was tried: what the next ones will
touch, for them to have it ready, as an array that native code takes as it is: every
clone reads it.

Owns the format.  Bytes of KVM and of the devices are kept as they came, in
base64; what they mean is known to who gave them.
"""

import json
import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from typing import Any, Final

from shim.errors import HostResource
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.memory_image import Run, map_memory, save_memory
from shim.vmm.kvm.part import PartState
from shim.vmm.kvm.working_set import RANGE, Touched, pack_touched

MEMORY_FILE: Final = "memory"
STATE_FILE: Final = "state.json"
TOUCHED_FILE: Final = "touched"
FORMAT: Final = 2
MODE: Final = 0o600
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


MachineState = dict[str, PartState]
"""Everything but the memory: by the parts' names, in the order in which they are restored."""


def write_snapshot(directory: str, state: MachineState, ram: GuestRam) -> None:
    """Into an existing directory that has none yet."""
    with open(os.open(f"{directory}/{MEMORY_FILE}", CREATE, MODE), "wb") as memory:
        runs = save_memory(ram, memory.fileno())
    parts = {name: encode(part) for name, part in state.items()}
    document = {"format": FORMAT, "runs": runs, "parts": parts}
    with open(os.open(f"{directory}/{STATE_FILE}", CREATE, MODE), "w") as file:
        json.dump(document, file)


def write_touched(directory: str, touched: Iterable[Touched]) -> None:
    with open(os.open(f"{directory}/{TOUCHED_FILE}", CREATE, MODE), "wb") as file:
        file.write(pack_touched(touched))


def read_touched(directory: str) -> bytes | None:
    """None where no clone was tried."""
    path = f"{directory}/{TOUCHED_FILE}"
    try:
        with open(path, "rb") as file:
            packed = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostResource(f"{path}: {error.strerror}") from error
    if len(packed) % RANGE.size:
        raise HostResource(f"{path}: {len(packed)} bytes are no list of pages")
    return packed


class Snapshot:
    """Read when made; `map` once there is memory to put it into."""

    def __init__(self, directory: str) -> None:
        self.touched = read_touched(directory)
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

    def map(self, ram: GuestRam) -> None:
        """Hazard: the file must stay as it is while a clone lives (SIGBUS)."""
        end = max((run.offset + run.length for run in self.runs if not run.path), default=0)
        try:
            size = os.stat(self.memory_path).st_size
        except OSError as error:
            raise HostResource(f"{self.memory_path}: {error.strerror}") from error
        if size != end:
            raise HostResource(f"{self.memory_path}: not the {end} bytes that were saved")
        map_memory(ram, self.runs, self.memory_path)


def parse_state(document: dict[str, Any]) -> MachineState:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}, not {FORMAT}")
    return {name: decode(part) for name, part in document["parts"].items()}


def encode(state: PartState) -> dict[str, str]:
    return {name: b2a_base64(data, newline=False).decode() for name, data in state.items()}


def decode(state: dict[str, str]) -> PartState:
    return {name: a2b_base64(text, strict_mode=True) for name, text in state.items()}
