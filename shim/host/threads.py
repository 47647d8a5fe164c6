"""This process's threads by name: how late their timers may be."""

import os
from collections.abc import Container
from contextlib import suppress

TASKS = "/proc/self/task"


def set_timer_slack(names: Container[str], slack_ns: int) -> None:
    """Of all threads with one of these names (comm, 15 bytes); those that they make inherit it.

    proc(5) /proc/PID/timerslack_ns.  Best effort: where the kernel refuses, it stays.
    """
    for thread in os.listdir(TASKS):
        with suppress(OSError):  # it has ended, or the kernel does not let us
            with open(f"{TASKS}/{thread}/comm", encoding="utf-8", errors="replace") as comm:
                name = comm.read().strip()
            if name in names:
                with open(f"/proc/{thread}/timerslack_ns", "w", encoding="utf-8") as slack:
                    slack.write(str(slack_ns))
