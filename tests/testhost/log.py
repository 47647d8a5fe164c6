"""What the tool itself says: on stderr, marked, so that a command's output stays its own."""

import sys


def say(text: str) -> None:
    print(f"testhost: {text}", file=sys.stderr, flush=True)
