"""Programs that prepare a host are silent until one fails, and never write to stdout."""

import subprocess

import pytest

from tests.testhost.quiet import run_quietly


def test_success_is_silent_but_for_marked_lines(capfd: pytest.CaptureFixture[str]) -> None:
    run_quietly(["sh", "-c", "echo noise; echo more >&2; echo 'testhost: matters'"])
    assert capfd.readouterr() == ("", "testhost: matters\n")


def test_a_failure_shows_what_was_said_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_quietly(["sh", "-c", "echo first; echo second >&2; exit 9"])
    assert failed.value.returncode == 9
    assert capfd.readouterr() == ("", "testhost: | first\ntesthost: | second\n")
