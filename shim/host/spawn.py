"""Programs started from this process, which may have threads: by posix_spawn.

A program inherits only /dev/null as stdin and stdout, the log as stderr and one
more descriptor.  The caller owns the child; failures are OSError.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

PYTHON: Final = (sys.executable, "-P", "-s", "-m")
"""Followed by one of our modules, found by PYTHONPATH=TREE."""
TREE: Final = Path(__file__).resolve().parents[2]


def spawn(
    command: tuple[str, ...],
    environment: dict[str, str],
    log_fd: int,
    given: tuple[int, int],
    **group: Any,
) -> int:
    """The pid.  `given`: a descriptor and its number there; `group`: as of os.posix_spawn."""
    # Order matters: the number may be that of log_fd itself.
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, log_fd, 2),
        (os.POSIX_SPAWN_DUP2, *given),
    ]
    environment = {**environment, "PYTHONPATH": str(TREE)}
    return os.posix_spawnp(command[0], command, environment, file_actions=actions, **group)
