"""The command line of `sampan image`."""

from pathlib import Path

import pytest

from image import cli
from image.build import BuildOptions, BuildResult


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[BuildOptions]:
    """The options of the build that the command line requested."""
    asked: list[BuildOptions] = []

    def build_image(options: BuildOptions, say: object) -> BuildResult:
        asked.append(options)
        return BuildResult(None)

    monkeypatch.setattr(cli, "build_image", build_image)
    monkeypatch.setattr("os.umask", lambda mask: 0)
    return asked


def test_without_a_word_the_kernel_is_debians(built: list[BuildOptions]) -> None:
    assert cli.main(["build"]) == 0
    assert (built[0].kernel_path, built[0].tuned) == (None, False)


def test_the_word_tuned_is_no_file(built: list[BuildOptions]) -> None:
    assert cli.main(["build", "--kernel", "tuned"]) == 0
    assert (built[0].kernel_path, built[0].tuned) == (None, True)


def test_a_file_of_that_name_has_a_directory(built: list[BuildOptions]) -> None:
    assert cli.main(["build", "--kernel", "./tuned", "--modules", "m"]) == 0
    assert built[0] == BuildOptions(
        cli.DEFAULT_OUTPUT, cli.DEFAULT_CACHE, kernel_path=Path("tuned"), modules_dir=Path("m")
    )


@pytest.mark.parametrize("kernel", [[], ["--kernel", "tuned"]])
def test_modules_are_those_of_a_file(
    built: list[BuildOptions], kernel: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["build", *kernel, "--modules", "m"])
    assert "--modules belongs to --kernel FILE" in capsys.readouterr().err
