"""`sampan ps`: the sandboxes of this host, and what each uses of it."""

import argparse
import json
from collections.abc import Iterable
from typing import Any, Final

from shim.machine.running import ProcessUse, Running, list_running

TITLES: Final = ("NAMESPACE", "ID", "STATE", "FROM", "AGE", "CPU", "SHIM", "VMM")
MIB: Final = 1 << 20


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("ps", help="the sandboxes of this host and what they use")
    parser.add_argument("--json", action="store_true", help="as JSON, in bytes and seconds")
    parser.set_defaults(run=lambda options: print_running(as_json=options.json))


def print_running(*, as_json: bool) -> int:
    found = list(list_running())
    if as_json:
        print(json.dumps([to_json(sandbox) for sandbox in found], indent=2))
    else:
        for line in align([TITLES, *(to_row(sandbox) for sandbox in found)]):
            print(line)
    return 0


def to_json(sandbox: Running) -> dict[str, Any]:
    fields = sandbox._asdict()
    for name in ("shim", "vmm"):
        use = fields[name]
        fields[name] = use._asdict() if use else None
    return fields


def to_row(sandbox: Running) -> tuple[str, ...]:
    processes = [use for use in (sandbox.shim, sandbox.vmm) if use]
    return (
        sandbox.namespace,
        sandbox.id,
        sandbox.state,
        sandbox.started_from or "-",
        show_age(sandbox.age_s),
        f"{sum(use.cpu_s for use in processes):.1f} s",
        show_memory(sandbox.shim),
        show_memory(sandbox.vmm),
    )


def show_age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def show_memory(use: ProcessUse | None) -> str:
    return f"{use.pss_bytes / MIB:.1f} MiB" if use else "-"


def align(rows: Iterable[tuple[str, ...]]) -> list[str]:
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
