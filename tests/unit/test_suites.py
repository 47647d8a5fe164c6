"""The reports of the public suites are read into one outcome for each test."""

import pytest

from tests.conformance.__main__ import LEFT, find_failures, find_missing
from tests.suites import suite


def test_pjdfstest_outcomes_and_its_exit_status() -> None:
    text = "chown::enoent_comp      ok\nopen::etxtbsy           FAILED\n\nSummary: 1 failed\n"
    assert suite.parse_pjdfstest(text, 1) == {
        "chown::enoent_comp": "ok",
        "open::etxtbsy": "FAILED",
        "(exit status)": "1",
    }


def test_unittest_lines_with_a_docstring_and_with_noise_between() -> None:
    text = (
        "test_a (test.test_os.T.test_a) ... ok\n"
        "test_b (test.test_os.T.test_b)\nA docstring. ... skipped 'no such thing'\n"
        "test_c (test.test_os.T.test_c) ... noise\nERROR\n"
    )
    assert suite.parse_python(text, 2) == {
        "test.test_os.T.test_a": "ok",
        "test.test_os.T.test_b": "skipped",
        "test.test_os.T.test_c": "ERROR",
        "(exit status)": "2",
    }


def test_stress_ng_kinds() -> None:
    text = (
        "stress-ng: info:  [1] skipped: 2: binderfs (1) ramfs (1)\n"
        "stress-ng: info:  [1] passed: 1: access (1)\n"
        "stress-ng: info:  [1] failed: 1: xattr (1)\n"
    )
    assert suite.parse_stress(text, 2) == {
        "binderfs": "skipped",
        "ramfs": "skipped",
        "access": "passed",
        "xattr": "failed",
        "(exit status)": "2",
    }


def test_a_test_that_only_one_side_ran_is_a_difference() -> None:
    assert suite.differences({"a": "ok"}, {"a": "ok", "b": "ok"}) == {"b": ("absent", "ok")}


def test_go_tests_with_their_subtests() -> None:
    text = (
        "=== RUN   TestShim/shim/Exec\n"
        "--- FAIL: TestShim (3.20s)\n"
        "    --- PASS: TestShim/shim/Exec (1.20s)\n"
        "        --- SKIP: TestShim/shim/Exec/Exit0 (0.00s)\n"
        "FAIL\n"
    )
    assert suite.parse_go(text, 1) == {
        "TestShim": "FAIL",
        "TestShim/shim/Exec": "PASS",
        "TestShim/shim/Exec/Exit0": "SKIP",
        "(exit status)": "1",
    }


@pytest.mark.parametrize(
    ("outcomes", "failures"),
    [
        ({"a": "PASS", "b": "SKIP", "(x: exit status)": "0", LEFT: "nothing"}, []),
        ({"a": "FAIL", "(suites: exit status)": "1"}, ["a", "(suites: exit status)"]),
        ({"a": "PASS", "(suites: exit status)": "1"}, ["(suites: exit status)"]),
        ({"a": "PASS", LEFT: "process 7"}, [LEFT]),
    ],
)
def test_what_a_shim_leaves_is_a_failure_though_no_test_of_it_failed(
    outcomes: dict[str, str], failures: list[str]
) -> None:
    assert find_failures(outcomes) == failures


def test_what_runc_fails_or_leaves_is_no_failure_of_sampan() -> None:
    ours = {"a": "PASS", "b": "PASS", "(suites: exit status)": "0", LEFT: "nothing"}
    theirs = {"a": "PASS", "b": "FAIL", "(suites: exit status)": "1", LEFT: "processes 7"}
    assert find_failures(ours) + find_missing(ours, theirs, {}) == []


def test_a_test_that_runc_alone_passed_is_a_failure_unless_it_is_known_why() -> None:
    theirs = {"a": "PASS", "b": "PASS", "c": "SKIP", "d": "PASS"}
    ours = {"a": "SKIP", "d": "FAIL"}
    assert find_missing(ours, theirs, {}) == ["a", "b"]
    assert find_missing(ours, theirs, {"shimtest * a": "why", "shimtest host b": "why"}) == []
