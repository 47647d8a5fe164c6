"""containerd's events of one container, as `ctr events` prints them."""

import subprocess
import time

from tests.e2e.ctr import TIMEOUT_S


def read_topics(events: "subprocess.Popen[bytes]", name: str) -> list[str]:
    """Of one container, until its deletion: lines `DATE TIME +0000 UTC NAMESPACE TOPIC JSON`."""
    topics: list[str] = []
    deadline = time.monotonic() + TIMEOUT_S
    assert events.stdout is not None
    while time.monotonic() < deadline:
        line = events.stdout.readline().decode()
        words = [word for word in line.split() if word.startswith("/tasks/")]
        if not words or f'"{name}"' not in line:
            continue
        topics.append(words[0].removeprefix("/tasks/"))
        if topics[-1] == "delete":
            return topics
    raise AssertionError(f"no /tasks/delete: {topics}")
