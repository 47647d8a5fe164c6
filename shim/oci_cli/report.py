"""How a command fails: one line on stderr, one in the file of --log, as runc's are."""

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TextIO

from shim.log import quote
from shim.oci_cli.usage import Flags

FAILED_STATUS: Final = 1
EXEC_FAILED_STATUS: Final = 255
"""runc's, for an exec that did not start."""
PREFIXES: Final[Mapping[str, str]] = {
    "create": "sampan create failed: ",
    "run": "sampan run failed: ",
    "exec": "exec failed: ",
}


def report(general: Flags, verb: str, text: str, stream: TextIO | None = None) -> int:
    """The exit status.  A log that cannot be written must not hide the error itself."""
    text = PREFIXES.get(verb, "") + text
    if general.text("log"):
        with suppress(OSError), open(general.text("log"), "a", encoding="utf-8") as log:
            log.write(format_line(text, general.text("log-format", "text")) + "\n")
    print(text, file=stream or sys.stderr, flush=True)
    return EXEC_FAILED_STATUS if verb == "exec" else FAILED_STATUS


def format_line(text: str, form: str) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if form == "json":
        return json.dumps({"level": "error", "msg": text, "time": stamp})
    return f'time="{stamp}" level=error msg={quote(text)}'
