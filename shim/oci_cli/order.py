"""`start`, `kill`, `pause`, `resume`, `update`: orders to a container's server."""

import json
import signal
import sys
from typing import Any, Final

from shim.errors import FailedPrecondition, InvalidArgument
from shim.machine.directory import SandboxDirectory
from shim.oci.spec import MAX_SPEC_BYTES, parse_resources
from shim.oci_cli.call import Call
from shim.oci_cli.control import ask
from shim.oci_cli.record import STOPPED, Record
from shim.oci_cli.usage import Flags

MAX_SIGNAL: Final = 64
UNITS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
SIZES: Final = {"memory": "limit", "memory-reservation": "reservation", "memory-swap": "swap"}
CPU: Final = {
    "cpu-period": "period",
    "cpu-quota": "quota",
    "cpu-burst": "burst",
    "cpu-share": "shares",
    "cpu-idle": "idle",
}


def order(call: Call, record: Record, operation: str, **arguments: Any) -> Any:
    """Stopped containers have no server."""
    if record.status == STOPPED:
        raise FailedPrecondition(f"container {record.id!r}: container not running")
    return ask(SandboxDirectory(record.sandbox).socket, operation, arguments)


def start(call: Call) -> int:
    record = call.find()
    if record.status != "created":
        raise FailedPrecondition(
            f"container {record.id!r}: cannot start a container that is {record.status}"
        )
    order(call, record, "start")
    return 0


def kill(call: Call) -> int:
    number = parse_signal(call.line.words[1] if len(call.line.words) > 1 else "TERM")
    everyone = "all" in call.line.flags.truths
    record = call.find()
    if record.status == STOPPED and everyone:
        return 0  # none is left
    order(call, record, "kill", signal=number, all=everyone)
    return 0


def pause(call: Call) -> int:
    order(call, call.find(), "pause")
    return 0


def resume(call: Call) -> int:
    order(call, call.find(), "resume")
    return 0


def update(call: Call) -> int:
    flags = call.line.flags
    resources = read_resources(flags.text("resources")) if "resources" in flags.texts else {}
    order(call, call.find(), "update", resources=merge_flags(resources, flags))
    return 0


def parse_signal(text: str) -> int:
    if text.isascii() and text.isdigit():
        number = int(text[:4])
    else:
        name = text.upper().removeprefix("SIG")
        member = getattr(signal, f"SIG{name}", None)
        number = int(member) if isinstance(member, signal.Signals) else -1
    if not 0 <= number <= MAX_SIGNAL:
        raise InvalidArgument(f"unknown signal {text!r}")
    return number


def read_resources(path: str) -> dict[str, Any]:
    """`-` is stdin."""
    if path == "-":
        return parse_resources(sys.stdin.buffer.read(MAX_SPEC_BYTES + 1))
    with open(path, "rb") as file:
        return parse_resources(file.read(MAX_SPEC_BYTES + 1))


def merge_flags(resources: dict[str, Any], flags: Flags) -> dict[str, Any]:
    """`resources` with what the flags name."""
    memory, cpu = dict(resources.get("memory") or {}), dict(resources.get("cpu") or {})
    for name, field in SIZES.items():
        if name in flags.texts:
            memory[field] = parse_size(name, flags.text(name))
    for name, field in CPU.items():
        if name in flags.texts:
            cpu[field] = parse_whole(name, flags.text(name))
    merged = {**resources, "memory": memory, "cpu": cpu}
    if "pids-limit" in flags.texts:
        merged["pids"] = {"limit": parse_whole("pids-limit", flags.text("pids-limit"))}
    merged = {name: value for name, value in merged.items() if value}
    return parse_resources(json.dumps(merged).encode())


def parse_whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InvalidArgument(f"--{name}: expected a whole number, is {text!r}") from error


def parse_size(name: str, text: str) -> int:
    """Bytes, or with a unit as 512m; -1 is no limit."""
    lower = text.lower().removesuffix("b") if text[:-1] else text
    unit = lower[-1:] if lower[-1:].isalpha() else ""
    if unit not in UNITS:
        raise InvalidArgument(f"--{name}: expected a size as 512m, is {text!r}")
    return parse_whole(name, lower.removesuffix(unit)) * UNITS[unit]
