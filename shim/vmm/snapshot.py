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
from typing import Any, Final, NamedTuple

from shim.errors import HostResource
from shim.vmm.kvm.memory import GuestRam
from shim.vmm.kvm.memory_image import Run, map_memory, save_memory
from shim.vmm.kvm.vcpu_state import VcpuState
from shim.vmm.kvm.vm_state import VmState
from shim.vmm.kvm.working_set import RANGE, Touched, pack_touched

MEMORY_FILE: Final = "memory"
STATE_FILE: Final = "state.json"
TOUCHED_FILE: Final = "touched"
FORMAT: Final = 1
MODE: Final = 0o600
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class MachineState(NamedTuple):
    """Everything but the memory."""

    tsc_khz: int
    vm: VmState
    vcpus: tuple[VcpuState, ...]
    serial: bytes
    devices: dict[str, bytes]
    """By the device's name, in the order of the slots."""
    sessions: dict[str, bytes]
    """Of the shares, by tag."""


def write_snapshot(directory: str, state: MachineState, ram: GuestRam) -> None:
    """Into an existing directory that has none yet."""
    with open(os.open(f"{directory}/{MEMORY_FILE}", CREATE, MODE), "wb") as memory:
        runs = save_memory(ram, memory.fileno())
    document = {
        "format": FORMAT,
        "runs": runs,
        "tsc_khz": state.tsc_khz,
        "vm": encode(state.vm),
        "vcpus": [encode(vcpu) for vcpu in state.vcpus],
        "serial": encode_bytes(state.serial),
        "devices": encode(state.devices),
        "sessions": encode(state.sessions),
    }
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
    return MachineState(
        tsc_khz=document["tsc_khz"],
        vm=decode(document["vm"]),
        vcpus=tuple(decode(vcpu) for vcpu in document["vcpus"]),
        serial=decode_bytes(document["serial"]),
        devices=decode(document["devices"]),
        sessions=decode(document["sessions"]),
    )


def encode_bytes(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def decode_bytes(text: str) -> bytes:
    return a2b_base64(text, strict_mode=True)


def encode(parts: dict[str, bytes]) -> dict[str, str]:
    return {name: encode_bytes(data) for name, data in parts.items()}


def decode(parts: dict[str, str]) -> dict[str, bytes]:
    return {name: decode_bytes(text) for name, text in parts.items()}
