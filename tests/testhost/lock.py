"""One test host at a time on a machine, and one build of its parts.

Owns the lock's fd while it is held; the kernel drops it with the process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testhost.log import say

LOCKS = Path("/run/lock")


@contextmanager
def machine_lock(activity: str, directory: Path = LOCKS) -> Iterator[None]:
    """`activity` is "build" or "run"."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"sampan-testhost-{activity}").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"waiting for the {activity} of process {file.read().strip() or '?'}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)
