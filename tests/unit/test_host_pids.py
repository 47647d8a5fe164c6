"""Ending exactly the process that was meant, and waiting for children."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from shim.host.pids import (
    ProcessIdentity,
    end_process,
    load_identity,
    open_process,
    read_identity,
    write_identity,
)
from shim.host.reaper import Reaper


def start_sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])


def test_an_identity_survives_its_file(tmp_path: Path) -> None:
    identity = read_identity(os.getpid())
    assert identity is not None
    write_identity(str(tmp_path / "pid"), identity)
    assert load_identity(str(tmp_path / "pid")) == identity


def test_a_missing_or_unfinished_file_is_nobody(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert load_identity(str(path)) is None
    for text in ("", "12", "a b", "1 2 3"):
        path.write_text(text)
        assert load_identity(str(path)) is None


def test_a_process_that_has_the_pid_but_another_start_is_left_alone() -> None:
    with start_sleeper() as child:
        identity = read_identity(child.pid)
        assert identity is not None
        another = ProcessIdentity(child.pid, identity.start_time + 1)
        assert open_process(another) is None
        assert end_process(another, 0, 1)
        assert child.poll() is None
        child.kill()


def test_the_right_process_is_killed_when_the_timeout_is_over() -> None:
    with start_sleeper() as child:
        identity = read_identity(child.pid)
        assert identity is not None
        assert end_process(identity, 0, 10)
        assert child.wait(10) == -signal.SIGKILL


def test_a_dead_process_is_nobody_before_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert read_identity(child.pid) is None
    child.wait()
    assert read_identity(child.pid) is None
    assert end_process(ProcessIdentity(child.pid, 1), 0, 0)


async def test_the_reaper_tells_codes_and_signals_and_adopts_strangers() -> None:
    reaper = Reaper(asyncio.get_running_loop())
    shell = ["/bin/sh", "-c"]
    exits = reaper.watch(os.posix_spawn("/bin/sh", [*shell, "exit 7"], {}))
    killed = reaper.watch(os.posix_spawn("/bin/sh", [*shell, "kill -9 $$"], {}))
    unknown = os.posix_spawn("/bin/sh", [*shell, "exit 0"], {})
    assert await asyncio.wait_for(exits, 20) == 7
    assert await asyncio.wait_for(killed, 20) == -9
    while Path(f"/proc/{unknown}").exists():
        await asyncio.sleep(0.01)
    reaper.close()
