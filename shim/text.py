"""Text of a vmm or a guest, before it goes into a log or an error.

Pure.  Such text is data of any length with any characters: the result is one
line that a terminal shows as it is.
"""

from typing import Final

MAX_TEXT: Final = 1024


def clean_text(text: str, limit: int = MAX_TEXT) -> str:
    """Printable characters alone, at most `limit` of them and then "…"."""
    kept = "".join(c if c.isprintable() else " " for c in text[: limit + 1]).strip()
    return kept if len(text) <= limit else kept[:limit] + "…"
