"""The command line of tests/testhost/run."""

from pathlib import Path

import pytest

from tests.testhost.cli import make_job, parse_arguments


def test_everything_after_the_dashes_is_the_command() -> None:
    options = parse_arguments(["--mem", "2048", "--", "sh", "-c", "exit 3", "--timeout", "5"])
    assert options.mem == 2048
    assert options.command == ["sh", "-c", "exit 3", "--timeout", "5"]
    assert options.timeout is None


def test_puts_and_gets_repeat_and_keep_their_order() -> None:
    options = parse_arguments(
        ["--put", "a:/b", "--put", "c:d:/e", "--get", "/f:g", "--get", "/h:i:j", "--", "true"]
    )
    assert options.put == [(Path("a"), "/b"), (Path("c:d"), "/e")]
    assert options.get == [("/f", Path("g")), ("/h", Path("i:j"))]


@pytest.mark.parametrize(
    "wrong", [["--put", "local"], ["--put", "a:relative"], ["--get", "a:b"], ["--get", "/a"]]
)
def test_a_malformed_pair_is_refused_with_its_text(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_arguments([*wrong, "--", "true"])
    assert wrong[1] in capsys.readouterr().err


def test_the_guest_kernel_is_debians_unless_it_is_said() -> None:
    assert parse_arguments(["--", "true"]).kernel == "debian"
    assert parse_arguments(["--kernel", "tuned", "--", "true"]).kernel == "tuned"


def test_only_named_variables_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_LOG", "debug")
    monkeypatch.setenv("REQUIRE_VM", "1")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    job = make_job(parse_arguments(["--", "true"]), "/puts")
    assert job.env["SAMPAN_LOG"] == "debug"
    assert job.env["REQUIRE_VM"] == "1"
    assert "SECRET_TOKEN" not in job.env
    assert job.put == ""
