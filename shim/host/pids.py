"""Processes: who they are, and ending the right one.

A pid alone may have been given to another process: a ProcessIdentity carries
the start time beside it and is checked through a pidfd before it is killed.
Synchronous; imports as little as shim/machine/directory.py, for the same reason.
"""

import os
import select
import signal

STAT_START_TIME = 19  # field 22 of proc(5) /proc/PID/stat, counted from the state on


class ProcessIdentity:
    __slots__ = ("pid", "start_time")

    def __init__(self, pid: int, start_time: int) -> None:
        self.pid = pid
        self.start_time = start_time

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProcessIdentity) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash((self.pid, self.start_time))

    def __str__(self) -> str:
        return f"{self.pid} {self.start_time}"


def read_stat(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) behind the process's name, the state first."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()


def read_identity(pid: int) -> ProcessIdentity | None:
    """None when there is no such process, or it is dead and waits to be reaped."""
    try:
        fields = read_stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return ProcessIdentity(pid, int(fields[STAT_START_TIME]))


def write_identity(path: str, identity: ProcessIdentity) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{identity}\n")


def note_process(path: str, pid: int) -> None:
    """Writes who `pid` is, if it is alive."""
    identity = read_identity(pid)
    if identity is not None:
        write_identity(path, identity)


def load_identity(path: str) -> ProcessIdentity | None:
    """None when the file is not there or was never finished."""
    try:
        with open(path, encoding="utf-8") as file:
            pid, start_time = file.read().split()
        return ProcessIdentity(int(pid), int(start_time))
    except (OSError, ValueError):
        return None


def open_process(identity: ProcessIdentity) -> int | None:
    """A pidfd of exactly this process; None when it has ended."""
    try:
        pidfd = os.pidfd_open(identity.pid)
    except (OSError, OverflowError):
        return None
    if read_identity(identity.pid) != identity:
        os.close(pidfd)
        return None
    return pidfd


def is_alive(identity: ProcessIdentity) -> bool:
    pidfd = open_process(identity)
    if pidfd is None:
        return False
    os.close(pidfd)
    return True


def wait_pidfd(pidfd: int, timeout_s: float) -> bool:
    """Whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def end_process(identity: ProcessIdentity, timeout_s: float, kill_wait_s: float) -> bool:
    """Waits `timeout_s` for a process to end by itself, then kills it.

    False when it is still there `kill_wait_s` after SIGKILL.
    """
    pidfd = open_process(identity)
    if pidfd is None:
        return True
    try:
        if wait_pidfd(pidfd, timeout_s):
            return True
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return wait_pidfd(pidfd, kill_wait_s)
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)
