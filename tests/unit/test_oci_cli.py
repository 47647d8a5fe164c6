"""The OCI command line's pure parts: flags, errors, figures, what an exec is made of."""

import json
from pathlib import Path

import pytest

from shim.errors import AlreadyExists, InvalidArgument, NotFound, SampanError, Unimplemented
from shim.oci.annotations import VCPUS_ANNOTATION
from shim.oci.hooks import CREATED_HOOKS, GUEST_HOOKS, STARTED_HOOKS, STOPPED_HOOKS
from shim.oci_cli.events import build_stats, parse_interval
from shim.oci_cli.execute import read_process
from shim.oci_cli.features import describe_features
from shim.oci_cli.look import format_table
from shim.oci_cli.main import PERFORM
from shim.oci_cli.order import merge_flags, parse_signal, parse_size
from shim.oci_cli.record import Record, check_id, list_records, load_record, make_record
from shim.oci_cli.report import format_line
from shim.oci_cli.usage import VERBS, Flags, parse_command_line

SPEC = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "annotations": {"a": "b"},
    "process": {
        "args": ["sh"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
        "capabilities": {"bounding": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
    },
}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    monkeypatch.setenv("SAMPAN_STATE_DIR", str(tmp_path / "run"))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/config.json").write_text(json.dumps(SPEC))
    return make_record(str(tmp_path / "root"), "c1", str(tmp_path / "bundle"), SPEC)


def test_flags_have_one_dash_or_two_and_their_value_next_or_behind_a_sign() -> None:
    words = "--root /r -log=/l --debug create -b /b --pid-file=/p --no-pivot c1"
    line = parse_command_line(words.split())
    assert (line.verb, line.words) == ("create", ["c1"])
    assert (line.general.text("root"), line.general.text("log")) == ("/r", "/l")
    assert "debug" in line.general.truths
    assert (line.flags.text("bundle"), line.flags.text("pid-file")) == ("/b", "/p")


def test_what_follows_the_id_of_an_exec_is_the_programs() -> None:
    line = parse_command_line(["exec", "-t", "-e", "A=1", "-e", "B=2", "c1", "ls", "-l", "--all"])
    assert line.words == ["c1", "ls", "-l", "--all"]
    assert line.flags.texts["env"] == ["A=1", "B=2"]


@pytest.mark.parametrize("words", [["-a", "c1", "9"], ["c1", "9", "-a"], ["c1", "-a", "9"]])
def test_kill_takes_its_flag_anywhere(words: list[str]) -> None:
    line = parse_command_line(["kill", *words])
    assert (line.words, line.flags.truths) == (["c1", "9"], {"all"})


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("", "expected a verb"),
        ("frob c1", "'frob'"),
        ("checkpoint c1", "checkpoint"),
        ("ps c1", "ps"),
        ("create --frob c1", "-frob"),
        ("create --bundle", "-bundle"),
        ("create", "container's id"),
        ("state c1 c2", "'c2'"),
        ("exec --apparmor x c1 ls", "--apparmor"),
        ("update --cpuset-cpus 1 c1", "--cpuset-cpus"),
        ("create --preserve-fds 2 c1", "--preserve-fds"),
        ("--rootless true create c1", "--rootless"),
        ("--log-format xml create c1", "'xml'"),
    ],
)
def test_what_is_not_there_is_refused_by_name(words: str, error: str) -> None:
    with pytest.raises((InvalidArgument, Unimplemented), match=error):
        parse_command_line(words.split())


def test_every_verb_is_performed() -> None:
    assert set(VERBS) == set(PERFORM)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", "a\n", "a" * 77])
def test_an_id_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="container id"):
        check_id(name)


def test_a_record_is_found_until_it_is_removed_and_stopped_without_a_server(
    record: Record,
) -> None:
    assert load_record(record.root, "c1").status == "stopped"  # of a server killed at once
    record.with_status("running", pid=77)
    found = load_record(record.root, "c1")
    assert (found.status, found.describe()["pid"]) == ("stopped", 0)
    assert found.describe()["annotations"] == {"a": "b"}
    assert [one.id for one in list_records(record.root)] == ["c1"]
    with pytest.raises(AlreadyExists, match="'c1'"):
        make_record(record.root, "c1", record.bundle, SPEC)
    assert [path.name for path in Path(record.root).iterdir()] == ["c1"]
    with pytest.raises(NotFound, match="'c2'.*does not exist"):
        load_record(record.root, "c2")


def test_an_exec_is_the_containers_process_changed_by_flags(record: Record) -> None:
    flags = Flags(
        {"env": ["A=b"], "cwd": ["/x"], "user": ["1:2"], "cap": ["CAP_CHOWN"]}, {"no-new-privs"}
    )
    process = read_process(record, flags, ["ls", "-l"])
    assert (process["args"], process["cwd"]) == (["ls", "-l"], "/x")
    assert process["env"] == ["PATH=/bin", "A=b"]
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [7]}
    assert process["noNewPrivileges"] is True
    assert process["capabilities"]["bounding"] == ["CAP_KILL", "CAP_CHOWN"]
    assert process["capabilities"]["ambient"] == ["CAP_KILL"]


def test_an_exec_by_file_is_what_the_file_says(record: Record, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"args": ["x"], "cwd": "/", "terminal": true}')
    process = read_process(record, Flags({"process": [str(tmp_path / "p.json")]}), [])
    assert process == {"args": ["x"], "cwd": "/", "terminal": True}


@pytest.mark.parametrize(
    ("texts", "error"), [({"user": ["root"]}, "--user"), ({"additional-gids": ["x"]}, "--addit")]
)
def test_users_are_numbers(record: Record, texts: dict[str, list[str]], error: str) -> None:
    with pytest.raises(InvalidArgument, match=error):
        read_process(record, Flags(texts), ["ls"])


@pytest.mark.parametrize(
    ("text", "number"), [("TERM", 15), ("SIGKILL", 9), ("hup", 1), ("0", 0), ("64", 64)]
)
def test_signals_have_names_and_numbers(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["65", "-1", "FROB", "", "_DFL", "SIG_IGN"])
def test_a_signal_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument, match="unknown signal"):
        parse_signal(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("512m", 512 << 20), ("1G", 1 << 30), ("2kb", 2048), ("-1", -1), ("7b", 7)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size("memory", text) == size


@pytest.mark.parametrize("text", ["", "m", "5x", "b", "1.5g"])
def test_a_size_that_is_none_names_its_flag(text: str) -> None:
    with pytest.raises(SampanError, match="--memory"):
        parse_size("memory", text)


def test_flags_of_an_update_change_what_the_file_says() -> None:
    flags = Flags({"memory": ["1m"], "cpu-quota": ["5000"], "pids-limit": ["9"]})
    merged = merge_flags({"memory": {"limit": 5, "swap": 7}, "unified": {"a": "b"}}, flags)
    assert merged == {
        "memory": {"limit": 1 << 20, "swap": 7},
        "cpu": {"quota": 5000},
        "pids": {"limit": 9},
        "unified": {"a": "b"},
    }


def test_a_log_line_is_runcs_in_form() -> None:
    entry = json.loads(format_line('no "x"\nhere', "json"))
    assert (entry["level"], entry["msg"]) == ("error", 'no "x"\nhere')
    assert set(entry) == {"level", "msg", "time"}
    assert format_line('no "x"\nhere', "text").endswith(r' level=error msg="no \"x\"\nhere"')


def test_figures_are_in_runcs_units() -> None:
    data = build_stats(
        {
            "cpu.stat": {"usage_usec": 3},
            "memory.current": {"": 5},
            "memory.max": {"": (1 << 64) - 1},
            "memory.stat": {"file": 2},
            "pids.max": {"": (1 << 64) - 1},
        }
    )
    assert data["cpu"]["usage"]["total"] == 3000
    assert data["memory"]["usage"]["usage"] == 5
    assert data["memory"]["usage"]["limit"] == (1 << 64) - 1
    assert (data["memory"]["cache"], data["pids"]["limit"]) == (2, 0)


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("100ms", 0.1), ("2m", 120)])
def test_intervals_are_gos(text: str, seconds: float) -> None:
    assert parse_interval(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-1s", "infs", "nans", "5y"])
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="--interval"):
        parse_interval(text)


def test_features_name_what_the_translation_keeps() -> None:
    features = describe_features()
    every = {*CREATED_HOOKS, *GUEST_HOOKS, *STARTED_HOOKS, *STOPPED_HOOKS}
    assert set(features["hooks"]) == every
    assert "rbind" in features["mountOptions"]
    assert features["potentiallyUnsafeConfigAnnotations"] == ["dev.sampan."]
    assert VCPUS_ANNOTATION.startswith("dev.sampan.")
    assert "user" not in features["linux"]["namespaces"]
    assert not features["linux"]["mountExtensions"]["idmap"]["enabled"]


def test_a_table_has_columns_that_fit() -> None:
    rows = list(format_table([("ID", "STATUS"), ("a-very-long-name", "running")]))
    assert rows == ["ID                 STATUS", "a-very-long-name   running"]
