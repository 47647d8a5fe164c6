"""How many out-of-memory events of a guest are reported to the listener.

Pure.  Kills come in bursts, and a guest that was taken over may report them
without end.
"""

from typing import Final

INTERVAL_S: Final = 1.0


class OomLimit:
    """Allows one event a second for each container, and one after its end."""

    def __init__(self) -> None:
        self._reported_s: dict[str, float] = {}
        self._reported_after_end: set[str] = set()

    def allows(self, container_id: str, has_ended: bool, now_s: float) -> bool:
        if now_s - self._reported_s.get(container_id, -INTERVAL_S) < INTERVAL_S:
            return False
        if has_ended:
            if container_id in self._reported_after_end:
                return False
            self._reported_after_end.add(container_id)
        self._reported_s[container_id] = now_s
        return True

    def forget(self, container_id: str) -> None:
        """The container has been deleted; a new one may get its name."""
        self._reported_s.pop(container_id, None)
        self._reported_after_end.discard(container_id)
