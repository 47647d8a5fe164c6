"""The end of a guest's console, for the log and for errors.

Pure but for reading the file.  The text is the guest's: only printable
characters are kept, and no more of them than an error can show.
"""

import os
from typing import Final

from shim.text import clean_text

TAIL_BYTES: Final = 16384
TAIL_LINES: Final = 8
LINE_CHARACTERS: Final = 240
PANIC: Final = "Kernel panic"
"""Its line says what went wrong; after it comes a stack trace."""


def read_console_tail(path: str) -> str:
    """The last lines, or a panic's first, joined by " | "; "" when there is nothing."""
    try:
        with open(path, "rb") as console:
            console.seek(max(0, os.fstat(console.fileno()).st_size - TAIL_BYTES))
            return summarize_console(console.read(TAIL_BYTES))
    except OSError:
        return ""


def summarize_console(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").splitlines()
    kept = [cleaned for line in lines if (cleaned := clean_text(line, LINE_CHARACTERS))]
    panics = [index for index, line in enumerate(kept) if PANIC in line]
    start = panics[0] if panics else max(0, len(kept) - TAIL_LINES)
    return " | ".join(kept[start : start + TAIL_LINES])
