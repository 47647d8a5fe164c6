"""What the tool itself says: on stderr, marked, so that a command's output stays its own."""

import sys

MARK = "testhost: "


def say(text: str) -> None:
    print(f"{MARK}{text}", file=sys.stderr, flush=True)
