"""Threads by name: how late their timers may be."""

import threading
from pathlib import Path

from shim.host.threads import set_timer_slack

SLACK_NS = 4 * 10**9


def read_slack(thread: threading.Thread) -> int:
    return int(Path(f"/proc/{thread.native_id}/timerslack_ns").read_text())


def name_self(name: str) -> None:
    Path("/proc/thread-self/comm").write_text(name)


def start(name: str, end: threading.Event) -> threading.Thread:
    named = threading.Event()

    def run() -> None:
        name_self(name)
        named.set()
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    named.wait()
    return thread


def test_only_threads_of_that_name_may_be_late() -> None:
    end = threading.Event()
    idle, busy = start("looks-for-work", end), start("works", end)
    before = read_slack(busy)
    set_timer_slack({"looks-for-work", "nobody"}, SLACK_NS)
    found = read_slack(idle), read_slack(busy)
    end.set()
    idle.join()
    busy.join()
    assert found == (SLACK_NS, before)
