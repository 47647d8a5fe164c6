"""`sampan ps`, `console` and `check`: what an operator sees of a host."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.cli import main as cli
from shim.cli.check import FAILED, OK, WARNING, Finding, find_cgroup, judge, render
from shim.cli.console import MOST_BYTES, clean
from shim.cli.ps import align, show_age
from shim.config import Config
from shim.errors import HostResource
from shim.host.pids import note_process
from shim.machine.directory import SandboxDirectory, SandboxKey, find_sandbox
from shim.machine.running import list_running


@pytest.fixture
def vmm() -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def sandbox(tmp_path: Path, vmm: int, monkeypatch: pytest.MonkeyPatch) -> SandboxDirectory:
    """One whose shim is this process."""
    monkeypatch.setenv("SAMPAN_STATE_DIR", str(tmp_path))
    return make_sandbox("one", vmm)


def make_sandbox(name: str, vmm: int, namespace: str = "default") -> SandboxDirectory:
    key = SandboxKey("/run/containerd", namespace, name)
    made = find_sandbox(key)
    made.create(key)
    note_process(made.shim_pid, os.getpid())
    note_process(made.vmm_pid, vmm)
    return made


def test_a_running_sandbox_is_listed_with_what_it_uses(sandbox: SandboxDirectory, vmm: int) -> None:
    Path(sandbox.counters).write_text(json.dumps({"cloned": True}))
    (found,) = list_running()
    assert (found.namespace, found.id, found.state) == ("default", "one", "running")
    assert found.started_from == "template"
    assert found.shim is not None
    assert found.vmm is not None
    assert (found.shim.pid, found.vmm.pid) == (os.getpid(), vmm)
    assert found.shim.pss_bytes > found.vmm.pss_bytes > 0
    assert found.shim.cpu_s > 0


@pytest.mark.parametrize("counters", ["", "[]", "{", '"cloned"', '{"cloned": "yes"}'])
def test_counters_are_a_vmms_text_and_may_be_anything(
    sandbox: SandboxDirectory, counters: str
) -> None:
    Path(sandbox.counters).write_text(counters)
    (found,) = list_running()
    assert found.started_from in ("", "boot")


def test_a_sandbox_without_its_processes_is_listed_with_what_is_missing(
    sandbox: SandboxDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(sandbox.shim_pid).write_text(f"{os.getpid()} 1\n")  # another process had this pid
    os.unlink(sandbox.vmm_pid)
    assert cli.main(["ps"]) == 0
    title, row = capsys.readouterr().out.splitlines()
    assert title.split() == ["NAMESPACE", "ID", "STATE", "FROM", "AGE", "CPU", "SHIM", "VMM"]
    assert row.startswith("default    one  no shim and no vmm  -")
    assert cli.main(["ps", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["id"], told["shim"], told["vmm"]) == ("one", None, None)


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert align([("A", "B"), ("long", "b")]) == ["A     B", "long  b"]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.9, "0 s"), (61, "1 m"), (7300, "2 h"), (200_000, "2 d")]
)
def test_an_age_has_one_unit(seconds: float, shown: str) -> None:
    assert show_age(seconds) == shown


def test_no_control_character_of_a_guest_reaches_the_terminal(
    sandbox: SandboxDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(sandbox.console).write_bytes(b"boot\r\n\tup \x1b[2J\x9b \xc2\x9b\x07 \xe2\x80\xae\n")
    assert cli.main(["console", "one"]) == 0
    assert capsys.readouterr().out == "boot\n\tup \\x1b[2J\\x9b \\x9b\\x07 \\u202e\n"
    assert clean(bytes(range(256))).isprintable() is False  # \n and \t
    assert all(c.isprintable() or c in "\n\t" for c in clean(bytes(range(256))))


def test_a_long_console_is_shown_from_its_end_on(
    sandbox: SandboxDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(sandbox.console).write_bytes(b"a" * MOST_BYTES + b"the end\n")
    assert cli.main(["console", "one"]) == 0
    shown = capsys.readouterr().out
    assert (len(shown), shown[-8:]) == (MOST_BYTES, "the end\n")


def test_a_console_is_followed_until_the_machine_ends(
    sandbox: SandboxDirectory,
    vmm: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console = Path(sandbox.console)
    console.write_text("first\n")
    steps = iter(("second\n", "end\n"))

    def write_more(_: float) -> None:
        with console.open("a") as file:
            file.write(next(steps))
        if console.read_text().endswith("end\n"):
            os.kill(vmm, 9)
            os.waitid(os.P_PID, vmm, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr("shim.cli.console.time.sleep", write_more)
    assert cli.main(["console", "--follow", "one"]) == 0
    assert capsys.readouterr().out == "first\nsecond\nend\n"


def test_a_console_of_an_id_that_is_not_one_sandboxs_is_refused(
    sandbox: SandboxDirectory, vmm: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(sandbox.console).write_text("hello\n")
    assert cli.main(["console", "two"]) == 1
    assert "'two': no such sandbox" in capsys.readouterr().err
    make_sandbox("one", vmm, "k8s.io")
    assert cli.main(["console", "one"]) == 1
    assert "use --namespace" in capsys.readouterr().err
    assert cli.main(["console", "one", "--namespace", "default"]) == 0


def test_each_need_that_is_not_met_says_what_to_do() -> None:
    def refuse() -> None:
        raise HostResource("/dev/kvm: no such file")

    assert judge("kvm", refuse, "get one") == Finding(
        "kvm", FAILED, "/dev/kvm: no such file", "get one"
    )
    assert render(judge("kvm", refuse, "get one")) == (
        "kvm: failed: /dev/kvm: no such file; get one"
    )
    assert render(Finding("kvm", OK)) == "kvm: ok"


@pytest.mark.parametrize(
    ("unified", "host_cgroup", "state"),
    [
        (True, "always", OK),
        (True, "never", OK),
        (False, "always", FAILED),
        (False, "never", WARNING),
    ],
)
def test_cgroup_v1_is_told_before_a_container_fails(
    unified: bool, host_cgroup: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.cli.check.is_unified", lambda: unified)
    assert find_cgroup(Config(host_cgroup=host_cgroup)).state == state


def test_check_as_json_has_every_need(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"image_dir: {tmp_path}\n")
    monkeypatch.setenv("SAMPAN_CONFIG", str(config))
    assert cli.main(["check", "--json"]) == 1
    found = {finding["need"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert found.keys() == {"kvm", "image", "cgroup", "vhost-net"}
    assert found["image"]["state"] == FAILED
    assert found["image"]["remedy"] == "sampan image build"
