"""One inotify descriptor for all files that are watched for changes.

cgroup v2 files announce their changes this way (kernel doc cgroup-v2.rst,
cgroup.events and memory.events).  Runs in the event loop.
"""

import asyncio
import os
import struct
from collections.abc import Callable
from typing import Final

from agent import linux

EVENT: Final = struct.Struct("iIII")  # linux/inotify.h: wd, mask, cookie, len
READ_BYTES: Final = 4096


class FileWatch:
    """open() in the running loop; a watch ends with remove() or with its file."""

    def __init__(self) -> None:
        self._fd = linux.open_inotify()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)

    def add(self, path: str, changed: Callable[[], None]) -> int:
        """Raises FileNotFoundError where there is no such file."""
        watch = linux.add_watch(self._fd, path, linux.IN_MODIFY)
        self._callbacks[watch] = changed
        return watch

    def remove(self, watch: int) -> None:
        if self._callbacks.pop(watch, None) is not None:
            linux.remove_watch(self._fd, watch)

    def _read(self) -> None:
        events = os.read(self._fd, READ_BYTES)
        offset = 0
        while offset < len(events):
            watch, mask, _, name_bytes = EVENT.unpack_from(events, offset)
            offset += EVENT.size + name_bytes
            if mask & linux.IN_IGNORED:
                self._callbacks.pop(watch, None)
            elif (changed := self._callbacks.get(watch)) is not None:
                changed()
