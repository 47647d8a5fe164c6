"""Many containers, one after another and at once: all right, and nothing is left."""

import subprocess

from tests.e2e.ctr import Ctr

IN_TURN = 20
AT_ONCE = 8
TIMEOUT_S = 600


def test_twenty_one_after_another(ctr: Ctr) -> None:
    for number in range(IN_TURN):
        done = ctr.run("sh", "-c", f"echo {number}; exit {number}")
        assert (done.status, done.stdout) == (number, f"{number}\n"), done


def test_eight_at_once(ctr: Ctr) -> None:
    running = [ctr.popen("sh", "-c", f"echo {n}; exit {n}") for n in range(AT_ONCE)]
    results = []
    for _, process in running:
        out, error = process.communicate(timeout=TIMEOUT_S)
        results.append((process.returncode, out, error))
    assert results == [(n, b"%d\n" % n, b"") for n in range(AT_ONCE)]


def test_a_container_that_is_killed_while_it_starts(ctr: Ctr) -> None:
    """ctr is killed at several moments of the start; removal by force cleans up."""
    for delay_s in ("0.5", "2", "5"):
        name = ctr.new_id()
        subprocess.run(
            [
                "timeout",
                "-s",
                "KILL",
                delay_s,
                "ctr",
                *ctr.run_arguments("localhost/sampan/busybox:1", name, ()),
                "sleep",
                "1000",
            ],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        ctr.remove(name)
        # ctr makes a snapshot before the container that it belongs to.
        ctr.command("snapshot", "rm", name)
