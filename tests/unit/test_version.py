"""The version is written once, and the changelog's newest entry is it."""

import re
import tomllib
from pathlib import Path

from shim.version import VERSION

TREE = Path(__file__).resolve().parents[2]
HEADING = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.M)
QUOTED = re.compile(rf"""["']{re.escape(VERSION)}["']""")
PACKAGES = ("shim", "agent", "image", "proto", "native", "benchmarks", "tests")


def read_headings() -> list[tuple[str, str]]:
    return HEADING.findall((TREE / "CHANGELOG.md").read_text())


def test_the_version_is_written_once() -> None:
    files = [path for name in PACKAGES for path in (TREE / name).rglob("*.py")]
    files += [TREE / "setup.py", TREE / "pyproject.toml"]
    found = [str(path.relative_to(TREE)) for path in files if QUOTED.search(path.read_text())]
    assert found == ["shim/version.py"]


def test_packaging_reads_the_version_from_there() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "shim.version.VERSION"}


def test_the_changelogs_newest_version_is_the_programs() -> None:
    assert read_headings()[0][0] == VERSION


def test_versions_and_their_dates_go_down() -> None:
    headings = read_headings()
    assert [date for _, date in headings] == sorted((date for _, date in headings), reverse=True)
    numbers = [tuple(map(int, version.split("."))) for version, _ in headings]
    assert numbers == sorted(set(numbers), reverse=True)


def test_every_heading_of_the_changelog_is_a_version_with_a_date() -> None:
    lines = (TREE / "CHANGELOG.md").read_text().splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert len(headings) == len(read_headings()), headings
