"""Out-of-memory kills in containers, reported to subscribers.

Counts come from memory.events of each container's cgroup, so a kill is reported
even if it also ended the container's init process.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple

from agent.cgroup import Cgroup
from agent.thrash import ThrashWatch
from agent.watch import FileWatch

MAX_QUEUED: Final = 256


class OomKill(NamedTuple):
    container_id: str
    kills: int
    """The count so far, including this kill."""


class OomWatch:
    """add() after a container's cgroup was made, check() when something ended, remove() after."""

    def __init__(self, files: FileWatch) -> None:
        self._files = files
        self._watches: dict[str, int] = {}
        self._kills: dict[str, int] = {}
        self._thrash: dict[str, ThrashWatch] = {}
        self._subscribers: set[asyncio.Queue[OomKill]] = set()

    def add(self, container_id: str, cgroup: Cgroup) -> None:
        self._kills[container_id] = 0
        self._thrash[container_id] = ThrashWatch(cgroup)
        try:
            self._watches[container_id] = self._files.add(
                cgroup.path_of("memory.events"), partial(self._handle_change, container_id, cgroup)
            )
        except FileNotFoundError:
            return  # a kernel without the memory controller kills no process for a cgroup's limit

    def remove(self, container_id: str) -> None:
        self._kills.pop(container_id, None)
        self._thrash.pop(container_id, None)
        watch = self._watches.pop(container_id, None)
        if watch is not None:
            self._files.remove(watch)

    def check(self, container_id: str, cgroup: Cgroup) -> None:
        if container_id not in self._kills:
            return
        now = cgroup.count_oom_kills()
        while self._kills[container_id] < now:
            self._kills[container_id] += 1
            self._publish(OomKill(container_id, self._kills[container_id]))

    def _handle_change(self, container_id: str, cgroup: Cgroup) -> None:
        """There was a kill, or the limit was reached again."""
        self.check(container_id, cgroup)
        if container_id in self._thrash:
            self._thrash[container_id].sample(asyncio.get_running_loop().time())

    @contextmanager
    def subscribe(self) -> "Generator[asyncio.Queue[OomKill], None, None]":
        queue: asyncio.Queue[OomKill] = asyncio.Queue(MAX_QUEUED)
        self._subscribers.add(queue)
        try:
            yield queue
        finally:
            self._subscribers.remove(queue)

    def _publish(self, kill: OomKill) -> None:
        for queue in self._subscribers:
            if queue.full():
                queue.get_nowait()  # a subscriber that does not read gets the latest
            queue.put_nowait(kill)
