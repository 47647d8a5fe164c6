"""One line on the guest's console: the only log that outlives the guest.

Every byte is a trip out of the guest, so only what went wrong is said.
"""

import os


def say(text: str) -> None:
    line = "sampan-agent: " + " ".join(text.split()) + "\n"
    try:
        os.write(2, line.encode(errors="replace"))
    except OSError:
        return  # a guest without a console has nobody to tell
