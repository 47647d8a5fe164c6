"""containerd dies and comes back: containers run on, nothing of theirs is lost."""

import time
from pathlib import Path

from tests.e2e.containerd import Containerd, wait_for
from tests.e2e.ctr import Ctr

COUNT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done"


def count_lines(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


def test_containers_outlive_containerd(ctr: Ctr, tmp_path: Path) -> None:
    """One runs on and writes, one ends while nobody is there: both are found as they are.

    With runc containerd 1.7 finds the second one no more; here its status is kept.
    """
    log, end = tmp_path / "log", tmp_path / "end"
    flags = ("--log-uri", f"file://{log}")
    mount = ("--mount", f"type=bind,src={tmp_path},dst=/data,options=rbind:rw")
    writer = ctr.start("sh", "-c", COUNT, flags=flags)
    ending = ctr.start(
        "sh", "-c", "until [ -e /data/end ]; do sleep 0.1; done; exit 7", flags=mount
    )
    wait_for(lambda: count_lines(log) > 3, "it writes")
    pid = ctr.task_pid(writer)

    containerd = Containerd()
    containerd.kill()
    seen = count_lines(log)
    end.touch()
    wait_for(lambda: count_lines(log) > seen + 5, "it writes on without containerd")
    time.sleep(2)  # for the other to end: without containerd no one can be asked
    containerd.start()

    assert (ctr.status(writer), ctr.task_pid(writer)) == ("RUNNING", pid)
    assert ctr.shell(writer, "echo from exec").stdout == "from exec\n"
    seen = count_lines(log)
    wait_for(lambda: count_lines(log) > seen, "it writes to containerd's successor")
    ctr.wait_status(ending, "STOPPED")
    done = ctr.command("task", "delete", ending)
    assert "7" in done.stderr or done.status == 7, done
    assert ctr.kill(writer).status == 0
    ctr.wait_status(writer, "STOPPED")
    lines = log.read_text().splitlines()
    assert lines == [str(number) for number in range(len(lines))]
