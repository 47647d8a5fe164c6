"""What containerd's call of the shim contains, and what the shim returns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proto.gen.containerd import task_pb2
from shim.containerd.arguments import StartOptions, UsageError, parse_arguments
from shim.containerd.start import (
    NewSandbox,
    become_server,
    fork_server,
    print_address,
    read_group,
    run_action,
    write_atomically,
)
from shim.machine.directory import SandboxDirectory, SandboxKey
from shim.ttrpc.wire import decode_fields, encode_bytes, encode_number, read_text

TREE = Path(__file__).resolve().parents[2]
START = "-namespace ns -address /run/c.sock -publish-binary /usr/bin/containerd -id c1".split()
OPTIONS = encode_bytes(1, b"runtimeoptions.v1.Options") + encode_bytes(
    2, encode_bytes(2, b"/etc/other.yaml")
)
RUNC_OPTIONS = encode_bytes(1, b"containerd.runc.v1.Options") + encode_bytes(2, encode_number(9, 1))
BOOTSTRAP = (
    encode_bytes(1, b"c1")
    + encode_bytes(2, b"ns")
    + encode_number(3, (1 << 64) - 4)
    + encode_bytes(8, encode_bytes(1, OPTIONS))
)


def test_gos_flags_are_read_in_every_spelling() -> None:
    invocation = parse_arguments([*START, "-debug", "--bundle=/b", "delete"])
    assert (invocation.namespace, invocation.container_id) == ("ns", "c1")
    assert (invocation.containerd, invocation.bundle) == ("/run/c.sock", "/b")
    assert (invocation.debug, invocation.action) == (True, "delete")


def test_the_bundle_is_the_working_directory_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    invocation = parse_arguments([*START, "start"])
    assert (invocation.bundle, invocation.debug) == (str(tmp_path), False)


def test_an_unknown_flag_is_named() -> None:
    with pytest.raises(UsageError, match="-frobnicate"):
        parse_arguments(["-frobnicate", "start"])


@pytest.mark.parametrize("arguments", [[], ["-id", "x"], ["-namespace", "n"], ["-id", "../x"]])
def test_an_action_needs_its_names(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        run_action([*arguments, "start"], fork_server)


@pytest.mark.parametrize("action", ["", "stop"])
def test_an_unknown_action_is_refused(action: str) -> None:
    with pytest.raises(UsageError, match="expected start or delete"):
        run_action([*START, *([action] if action else [])], fork_server)


def test_stdin_may_be_empty() -> None:
    options = StartOptions(b"", "c1")
    assert (options.is_bootstrap, options.config_path) == (False, "")


def test_options_name_a_configuration_file() -> None:
    options = StartOptions(OPTIONS, "c1")
    assert (options.is_bootstrap, options.config_path) == (False, "/etc/other.yaml")


def test_options_of_another_runtime_are_ignored() -> None:
    assert StartOptions(RUNC_OPTIONS, "c1").config_path == ""


def test_bootstrap_params_are_known_by_the_id_in_them() -> None:
    options = StartOptions(BOOTSTRAP, "c1")
    assert (options.is_bootstrap, options.config_path) == (True, "/etc/other.yaml")


def test_garbage_on_stdin_is_refused() -> None:
    with pytest.raises(UsageError, match="stdin"):
        StartOptions(b"\xff\xff\xff", "c1")


@pytest.mark.parametrize(
    ("stdin", "environment", "structured"),
    [(b"", {}, False), (b"", {"MAX_SHIM_VERSION": "2"}, True), (BOOTSTRAP, {}, True)],
    ids=["containerd 1.6", "1.7 to 2.2", "2.3"],
)
def test_each_containerd_gets_an_address_that_it_understands(
    stdin: bytes,
    environment: dict[str, str],
    structured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MAX_SHIM_VERSION", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    print_address(SandboxDirectory("/run/sampan/x"), StartOptions(stdin, "c1"))
    out, err = capsys.readouterr()
    assert err == ""
    address = "unix:///run/sampan/x/shim.sock"
    if structured:
        assert json.loads(out) == {"version": 2, "address": address, "protocol": "ttrpc"}
    else:
        assert out == address


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ('{"annotations": {"io.kubernetes.cri.sandbox-id": "p"}}', "p"),
        ('{"annotations": {"io.containerd.runc.v2.group": "g"}}', "g"),
        ('{"annotations": null}', ""),
        ("{}", ""),
        ("[]", ""),
        ("{", ""),
        ('{"annotations": [1]}', ""),
    ],
)
def test_the_group_is_read_and_never_judged(tmp_path: Path, text: str, group: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert read_group(str(tmp_path)) == group


def test_no_bundle_is_no_group(tmp_path: Path) -> None:
    assert read_group(str(tmp_path)) == ""


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    write_atomically(str(tmp_path / "address"), "unix:///x")
    assert os.listdir(tmp_path) == ["address"]


def test_a_server_whose_bundle_is_gone_leaves_nothing(tmp_path: Path) -> None:
    """For a start that containerd has given up; it does not call `delete` then."""
    sandbox = SandboxDirectory(str(tmp_path / "sandbox"))
    key = SandboxKey("containerd", "ns", "c1")
    invocation = parse_arguments([*START, "-bundle", str(tmp_path / "gone"), "start"])
    new = NewSandbox(invocation, StartOptions(b"", "c1"), sandbox, key)
    new.prepare()
    server = os.fork()
    if server == 0:
        become_server(new, oom_score=0)
    new.listener.close()
    assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == 1
    assert not os.path.exists(sandbox.path)


def run_shim(
    *arguments: str, stdin: bytes = b"", state: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "shim.containerd.start", *arguments],
        input=stdin,
        capture_output=True,
        cwd=TREE,
        env={**os.environ, "SAMPAN_STATE_DIR": str(state or TREE / "none")},
        check=False,
    )


def test_delete_of_what_never_was_prints_a_killed_process(tmp_path: Path) -> None:
    done = run_shim(*START, "-bundle", "/nonexistent", "delete", state=tmp_path)
    response = task_pb2.DeleteResponse.FromString(done.stdout)
    assert (done.returncode, done.stderr, response.exit_status) == (0, b"", 137)
    assert response.exited_at.seconds > 0


def test_info_names_the_runtime() -> None:
    done = run_shim("-info")
    fields = decode_fields(done.stdout)
    assert (done.returncode, done.stderr, read_text(fields, 1)) == (
        0,
        b"",
        "io.containerd.sampan.v2",
    )


def test_version_is_text() -> None:
    done = run_shim("-v")
    assert (done.returncode, done.stdout[:25]) == (0, b"containerd-shim-sampan-v2")


def test_a_failure_is_one_line_and_exit_status_one() -> None:
    done = run_shim("start")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"-namespace: expected a name, is ''\n"


def test_start_and_delete_import_nothing_that_takes_long() -> None:
    """Each of these imports takes milliseconds, at the start and at the end of every
    container."""
    slow = (
        "asyncio dataclasses google grpc importlib.metadata inspect logging pathlib shutil"
        " subprocess yaml"
    ).split()
    code = f"import sys, shim.containerd.start; print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, cwd=TREE, check=True
    )
    assert done.stdout == b"[]\n"
