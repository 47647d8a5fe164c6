"""`ctr task`: exec, kill, ps, ls, attach on one running container."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.ctr import BUSYBOX, TIMEOUT_S, Ctr


@pytest.fixture(scope="module")
def running(module_ctr: Ctr) -> Iterator[str]:
    name = module_ctr.start("sleep", "100000", flags=("--env", "GREETING=hi"))
    yield name
    module_ctr.remove(name)


def test_exec_has_output_status_and_the_containers_environment(
    module_ctr: Ctr, running: str
) -> None:
    done = module_ctr.shell(running, "echo $GREETING; echo oops >&2; exit 9")
    assert (done.status, done.stdout, done.stderr) == (9, "hi\n", "oops\n"), done


def test_exec_shares_the_containers_processes_and_files(module_ctr: Ctr, running: str) -> None:
    done = module_ctr.shell(running, "cat /proc/1/comm; echo kept > /root/kept")
    assert (done.status, done.stdout) == (0, "sleep\n"), done
    assert module_ctr.exec(running, "cat", "/root/kept").stdout == "kept\n"


def test_exec_reads_stdin_to_its_end(module_ctr: Ctr, running: str) -> None:
    done = module_ctr.exec(running, "wc", "-c", stdin=b"z" * 100_000)
    assert (done.status, done.stdout.strip()) == (0, "100000"), done


def test_exec_with_user_and_cwd(module_ctr: Ctr, running: str) -> None:
    done = module_ctr.exec(
        running, "sh", "-c", "id -u; pwd", flags=("--user", "1000", "--cwd", "/home")
    )
    assert (done.status, done.stdout) == (0, "1000\n/home\n"), done


def test_exec_of_a_missing_program_names_it_and_harms_nothing(
    module_ctr: Ctr, running: str
) -> None:
    done = module_ctr.exec(running, "nosuchprogram")
    assert done.status != 0
    assert "nosuchprogram" in done.stderr, done
    assert module_ctr.exec(running, "echo", "still here").stdout == "still here\n"


def test_kill_of_an_exec_leaves_the_container(module_ctr: Ctr, running: str) -> None:
    process = subprocess.Popen(
        ["ctr", "task", "exec", "--exec-id", "victim", running, "sh", "-c", "echo up; sleep 1000"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    killed = module_ctr.kill(running, flags=("--exec-id", "victim"))
    assert killed.status == 0, killed
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 137
    assert module_ctr.status(running) == "RUNNING"


def test_exec_with_a_terminal(module_ctr: Ctr, running: str) -> None:
    """`script` gives ctr the terminal that --tty wants."""
    command = (
        f"ctr task exec --tty --exec-id tty1 {running} sh -c 'test -t 1 && echo a-tty; exit 4'"
    )
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert b"a-tty" in done.stdout, done
    assert done.returncode == 4


def test_ls_and_ps_show_a_live_host_process(module_ctr: Ctr, running: str) -> None:
    assert module_ctr.status(running) == "RUNNING"
    pid = module_ctr.task_pid(running)
    with open(f"/proc/{pid}/comm") as comm:
        assert comm.read()
    listed = module_ctr.command("task", "ps", running)
    assert listed.status == 0, listed
    assert str(pid) in listed.stdout


def test_metrics_are_the_containers_own(module_ctr: Ctr, running: str) -> None:
    done = module_ctr.command("task", "metrics", "--format", "json", running)
    assert done.status == 0, done
    metrics = json.loads(done.stdout)
    assert int(metrics["pids"]["current"]) >= 1
    assert int(metrics["memory"]["usage"]) > 0


def test_pause_stops_and_resume_goes_on(module_ctr: Ctr, running: str) -> None:
    assert module_ctr.command("task", "pause", running).status == 0
    assert module_ctr.status(running) == "PAUSED"
    assert module_ctr.command("task", "resume", running).status == 0
    assert module_ctr.status(running) == "RUNNING"
    assert module_ctr.exec(running, "echo", "awake").stdout == "awake\n"


def test_detached_then_attached(ctr: Ctr) -> None:
    """`ctr run -d`, then attach: the exit status arrives."""
    name = ctr.start("sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 6")
    attached = subprocess.Popen(
        ["ctr", "task", "attach", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert ctr.exec(name, "touch", "/tmp/go").status == 0
    attached.communicate(timeout=TIMEOUT_S)
    assert attached.returncode == 6


def test_kill_ends_the_container_with_137_and_delete_tells_it(ctr: Ctr) -> None:
    name = ctr.start("sleep", "1000")
    assert ctr.kill(name).status == 0
    ctr.wait_status(name, "STOPPED")
    done = ctr.command("task", "delete", name)
    # ctr ends with 0 here and warns; under runc it says the same.
    assert (done.status, "non-zero exit code 137" in done.stderr) == (0, True), done


def test_signals_reach_the_program(ctr: Ctr) -> None:
    name, process = ctr.popen(
        "sh", "-c", "trap 'exit 21' TERM; echo up; while :; do sleep 0.1; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert ctr.kill(name, "SIGTERM").status == 0
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 21


def test_the_same_id_can_be_used_again(ctr: Ctr) -> None:
    name = ctr.new_id()
    for _ in range(2):
        assert ctr.run("true", name=name, image=BUSYBOX).status == 0
