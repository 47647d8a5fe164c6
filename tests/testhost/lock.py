"""One test host at a time on a machine, but for those that are said to run beside others,
and one build of its parts.

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
def machine_lock(activity: str, directory: Path = LOCKS, *, shared: bool = False) -> Iterator[None]:
    """`activity` is "build" or "run".  `shared`: with others that share it."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"sampan-testhost-{activity}").open("a+") as file:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"waiting for the {activity} of process {file.read().strip() or '?'}")
            fcntl.flock(file, kind)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)
