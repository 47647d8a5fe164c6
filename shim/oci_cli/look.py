"""`state` and `list`: what the records say."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from shim.errors import InvalidArgument
from shim.oci_cli.call import Call
from shim.oci_cli.record import list_records

COLUMNS: Final = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
LEAST_WIDTH: Final = 12
GAP: Final = 3


def state(call: Call) -> int:
    print(json.dumps(call.find().describe(), indent=2))
    return 0


def list_containers(call: Call) -> int:
    form = call.line.flags.text("format", "table")
    if form not in ("table", "json"):
        raise InvalidArgument(f"--format: expected table or json, is {form!r}")
    described = [record.describe() for record in list_records(call.root)]
    if "quiet" in call.line.flags.truths:
        for one in described:
            print(one["id"])
    elif form == "json":
        print(json.dumps(described or None))
    else:
        rows = [[str(one[name.lower()]) for name in COLUMNS] for one in described]
        print("\n".join(format_table([COLUMNS, *rows])))
    return 0


def format_table(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """runc's: columns of at least twelve characters, three between them."""
    widths = [
        max(LEAST_WIDTH, *(len(row[index]) + GAP for row in rows)) for index in range(len(rows[0]))
    ]
    for row in rows:
        yield "".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
