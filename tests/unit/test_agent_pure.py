"""The agent's pure parts: states, specs, error messages, figures."""

import itertools
import json

import pytest

from agent.cgroup import MAX_VALUE, parse_keyed, parse_nested, parse_single
from agent.crun import explain_failure
from agent.errors import FailedPrecondition, InvalidArgument, NotFound, RuntimeFailure
from agent.identity import renew_identity
from agent.lifecycle import ALIVE, TRANSITIONS, State, Step, advance
from agent.reaper import shell_status
from agent.shares import count_unwritten
from agent.spec import check_id, map_uid, parse_container, parse_exec
from agent.stdio import parse_stdio
from agent.streams import parse_token
from proto import contract

# --- a clone's own ---


@pytest.mark.parametrize(
    ("entropy", "hostname", "field"),
    [
        (b"", "host", "entropy"),
        (bytes(contract.ENTROPY_BYTES + 1), "host", "entropy"),
        (bytes(contract.ENTROPY_BYTES), "", "hostname"),
        (bytes(contract.ENTROPY_BYTES), "h" * 65, "hostname"),
    ],
)
def test_what_a_clone_is_given_is_checked_before_anything_is_changed(
    entropy: bytes, hostname: str, field: str
) -> None:
    with pytest.raises(InvalidArgument, match=field):
        renew_identity(entropy, 0, hostname)


# --- states -------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        [Step.CREATE, Step.START, Step.STARTED, Step.EXIT, Step.DRAIN, Step.DELETE],
        [Step.CREATE, Step.DELETE],  # an exec that was never started
        [Step.CREATE, Step.EXIT, Step.DRAIN, Step.DELETE],  # killed before its start
        [Step.CREATE, Step.START, Step.EXIT, Step.DRAIN],  # ended before crun start returned
        [Step.CREATE, Step.START, Step.REFUSE, Step.START],
        [Step.CREATE, Step.START, Step.ABANDON, Step.DELETE],
    ],
)
def test_every_life_that_can_be_is_allowed(steps: list[Step]) -> None:
    state = State.CREATING
    for step in steps:
        state = advance(state, step, "it")


def test_everything_else_is_refused_with_the_state_and_the_name() -> None:
    for state, step in itertools.product(State, Step):
        if (state, step) in TRANSITIONS:
            continue
        with pytest.raises(
            FailedPrecondition, match=f"cannot {step.value} c1: it is {state.value}"
        ):
            advance(state, step, "c1")


def test_what_is_alive_can_exit_and_cannot_be_deleted_once_it_runs() -> None:
    assert {state for state in State if (state, Step.EXIT) in TRANSITIONS} == ALIVE
    assert (State.RUNNING, Step.DELETE) not in TRANSITIONS
    assert (State.ENDED, Step.DELETE) not in TRANSITIONS


# --- ids and specs ------------------------------------------------------------


@pytest.mark.parametrize("good", ["a", "A.b_c-9", "x" * contract.MAX_ID_BYTES])
def test_ids_as_containerd_makes_them(good: str) -> None:
    assert check_id(good, "id") == good


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a b", "ä", "x" * 77, "a\n"])
def test_an_id_that_is_not_a_name_is_refused(bad: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^id: "):
        check_id(bad, "id")


PROCESS = b'{"args": ["sh"], "user": {"uid": 7}}'


def test_a_spec_without_a_cgroup_gets_the_containers_own() -> None:
    spec = parse_container(b'{"process": ' + PROCESS + b"}", "c1", terminal=True)
    assert spec.cgroup_path == "/sampan/c1" == spec.document["linux"]["cgroupsPath"]
    assert spec.init.uid == 7
    assert spec.document["process"]["terminal"] is True


@pytest.mark.parametrize(
    "path",
    ["", "/", "/sampan", "/sampan/", "sampan/c1", "/other/c1", "/sampan/../agent", "/sampan/./c"],
)
def test_a_cgroup_outside_the_containers_is_refused(path: str) -> None:
    spec = b'{"process": %s, "linux": {"cgroupsPath": "%s"}}' % (PROCESS, path.encode())
    with pytest.raises(InvalidArgument, match=r"linux\.cgroupsPath"):
        parse_container(spec, "c1", terminal=False)


def test_a_nested_cgroup_is_allowed() -> None:
    spec = b'{"process": %s, "linux": {"cgroupsPath": "/sampan/pod/c1"}}' % PROCESS
    assert parse_container(spec, "c1", terminal=False).cgroup_path == "/sampan/pod/c1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"{", "process_json: not JSON"),
        (b"3", "process_json: not an object but int"),
        (b"{}", "process_json.args: expected a program"),
        (b'{"args": "sh"}', "process_json.args: expected a program"),
        (
            b'{"args": ["sh"], "user": {"uid": -1}}',
            "process_json.user.uid: expected 0 to 4294967295, is -1",
        ),
        (
            b'{"args": ["sh"], "user": {"uid": "root"}}',
            "process_json.user.uid: expected 0 to 4294967295, is 'root'",
        ),
    ],
)
def test_a_wrong_process_names_its_field(text: bytes, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{complaint}"):
        parse_exec(text, terminal=False)


def test_a_user_is_mapped_out_of_its_user_namespace() -> None:
    mappings = [
        {"containerID": 0, "hostID": 100000, "size": 1000},
        {"containerID": 1000, "hostID": 5, "size": 1},
    ]
    assert [map_uid(uid, mappings) for uid in (0, 999, 1000, 1001)] == [100000, 100999, 5, 1001]


# --- stdio requests -----------------------------------------------------------


def test_tokens_are_raw_bytes_and_none_is_dev_null() -> None:
    request = parse_stdio(False, "", "ab" * 16, "")
    assert request.tokens() == [b"\xab" * 16]
    assert request.stdin == b""


@pytest.mark.parametrize(
    "token", ["a", "AB" * 16, "zz" * 16, "ab " * 11, "ab" * 17, " " + "ab" * 16]
)
def test_a_token_has_exactly_one_spelling(token: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^field: "):
        parse_token(token, "field")


def test_a_terminal_has_no_stderr() -> None:
    with pytest.raises(InvalidArgument, match="stderr_token"):
        parse_stdio(True, "", "", "ab" * 16)


# --- crun's words -------------------------------------------------------------


def test_a_missing_program_reads_as_with_runc() -> None:
    log = "executable file `foo` not found in $PATH: No such file or directory\n"
    error = explain_failure(log, 1, "foo")
    assert isinstance(error, NotFound)
    assert str(error) == 'exec: "foo": executable file not found in $PATH'


def test_a_missing_path_is_not_said_to_be_looked_for_in_path() -> None:
    log = "executable file `/bin/foo` not found in $PATH: No such file or directory\n"
    error = explain_failure(log, 1, "/bin/foo")
    assert isinstance(error, NotFound)
    assert str(error) == 'exec: "/bin/foo": stat /bin/foo: no such file or directory'


@pytest.mark.parametrize(
    "words",
    [
        "open executable: Permission denied",
        "open executable: Operation not permitted",
        "the path `/etc` exists but it is not executable: Operation not permitted",
        "the path `/etc` is not a regular file: Operation not permitted",
    ],
)
def test_what_is_no_program_reads_as_with_runc(words: str) -> None:
    error = explain_failure(words + "\n", 1, "/etc")
    assert isinstance(error, InvalidArgument)
    assert str(error) == 'exec: "/etc": permission denied'


def test_of_several_lines_the_last_one_is_the_reason() -> None:
    log = "2026-01-01T00:00:00.000000Z: a warning\n2026-01-01T00:00:00.000000Z: mount: no\n\n"
    error = explain_failure(log, 1, "x")
    assert isinstance(error, RuntimeFailure)
    assert str(error) == "crun: mount: no"


def test_a_silent_failure_tells_its_status() -> None:
    assert "status 137" in str(explain_failure("", 137, "x"))


# --- ends and figures ---------------------------------------------------------


def test_exit_statuses_are_the_shells() -> None:
    assert shell_status(1, 7) == 7  # CLD_EXITED
    assert shell_status(2, 9) == 137  # CLD_KILLED
    assert shell_status(3, 11) == 139  # CLD_DUMPED


def test_cgroup_files_by_their_three_formats() -> None:
    assert parse_single("4096\n") == {"": 4096}
    assert parse_single("max\n") == {"": MAX_VALUE}
    assert parse_keyed("oom 1\noom_kill 2\n") == {"oom": 1, "oom_kill": 2}
    assert parse_nested("8:0 rbytes=1 wbytes=2\n8:16 rbytes=3\n7:0\n") == {
        "8:0 rbytes": 1,
        "8:0 wbytes": 2,
        "8:16 rbytes": 3,
    }


def test_pages_on_their_way_to_the_host_are_counted_in_all_their_states() -> None:
    vmstat = ["nr_free_pages 900", "nr_dirty 3", "nr_writeback 0", "nr_writeback_temp 2"]
    assert count_unwritten(vmstat) == [3, 0, 2]


def test_only_paths_on_the_hosts_shares_are_flushed() -> None:
    spec = {
        "process": {"args": ["sh"]},
        "root": {"path": f"{contract.GUEST_ROOTFS_DIR}/c1"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "source": f"{contract.GUEST_VOLUMES_DIR}/c1/0"},
            {"destination": "/run", "type": "tmpfs"},
        ],
    }
    paths = parse_container(json.dumps(spec).encode(), "c1", terminal=False).shared_paths
    assert paths == (
        f"{contract.GUEST_ROOTFS_DIR}/c1",
        f"{contract.GUEST_VOLUMES_DIR}/c1/0",
    )
