"""Debian sources: the machine's own mirrors with another suite, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from image import packages
from image.errors import FetchError, ToolError
from image.packages import Archive, Package, Source, derive_sources


def print_uris(*archives: str) -> list[str]:
    """As `apt-get update --print-uris` prints them: an InRelease and an index for each "URI
    SUITE"."""
    lines = []
    for archive in archives:
        uri, suite = archive.split()
        lines.append(f"'{uri}/dists/{suite}/InRelease' name_InRelease 0 ")
        lines.append(f"'{uri}/dists/{suite}/main/binary-amd64/Packages.xz' name_Packages 0 ")
    return lines


def test_only_the_suite_of_a_debian_source_changes() -> None:
    printed = print_uris(
        "http://mirror.test/debian bookworm",
        "http://mirror.test/debian bookworm-updates",
        "http://mirror.test/security bookworm-security",
    )
    assert derive_sources(printed, "trixie") == [
        Source("http://mirror.test/debian", "trixie"),
        Source("http://mirror.test/debian", "trixie-updates"),
        Source("http://mirror.test/security", "trixie-security"),
    ]


def test_a_dated_snapshot_is_asked_before_the_undated_archive() -> None:
    printed = print_uris("http://mirror.test/archive/debian/20250520T000000Z stable")
    assert derive_sources(printed, "trixie") == [
        Source("http://mirror.test/archive/debian/20250520T000000Z", "trixie"),
        Source("http://mirror.test/debian", "trixie"),
    ]


def test_other_vendors_and_pockets_are_passed_over() -> None:
    printed = print_uris(
        "https://vendor.test/node nodistro",
        "https://vendor.test/apt cloud-sdk-bookworm",
        "http://mirror.test/debian bookworm-backports",
    )
    assert derive_sources([*printed, ""], "trixie") == []


def test_the_suite_itself_is_asked_for_first() -> None:
    printed = print_uris("http://s.test/security trixie-security", "http://m.test/debian trixie")
    assert [source.suite for source in derive_sources(printed, "trixie")] == [
        "trixie",
        "trixie-security",
    ]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made = Archive(tmp_path)
    made.prepare()
    return made


def refuse(*lines: str) -> Callable[..., bytes]:
    """A stand-in for apt that cannot read a source with one of these lines."""

    def run(command: list[str], **_: object) -> bytes:
        directory = next(word for word in command if str(word).startswith("Dir::Etc::SourceParts="))
        listing = Path(directory.partition("=")[2]) / "sampan.sources"
        if any(line in listing.read_text().splitlines() for line in lines):
            raise ToolError("apt-get failed (100): E: 404 Not Found")
        return b""

    return run


def test_an_archive_without_the_suite_names_every_mirror_that_refused(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "run_tool", refuse("Suites: trixie"))
    with pytest.raises(
        FetchError, match=r"no archive serves Debian trixie: http://a.test trixie: .*404"
    ):
        archive.update([Source("http://a.test", "trixie")])


def test_a_missing_pocket_does_not_stop_the_build(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "run_tool", refuse("Suites: trixie-security"))
    archive.update([Source("http://a.test", "trixie"), Source("http://a.test", "trixie-security")])
    kept = (tmp_path / "sources" / "sampan.sources").read_text()
    assert "Suites: trixie\n" in kept
    assert "trixie-security" not in kept


def test_the_next_mirror_is_tried_and_one_that_serves_ends_the_search(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(packages, "run_tool", refuse("URIs: http://old.test"))
    archive.update([Source(f"http://{name}.test", "trixie") for name in ("old", "new", "other")])
    kept = (tmp_path / "sources" / "sampan.sources").read_text()
    assert "http://new.test" in kept
    assert "http://old.test" not in kept
    assert "http://other.test" not in kept


def test_the_kernel_is_what_the_metapackage_depends_on(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (
        b"Package: linux-image-cloud-amd64\nVersion: 6.12.1-1\n"
        b"Depends: linux-image-6.12.1+deb13-cloud-amd64 (= 6.12.1-1)\n"
    )
    monkeypatch.setattr(packages, "run_tool", lambda *_, **__: shown)
    assert archive.kernel_package() == "linux-image-6.12.1+deb13-cloud-amd64"


def test_a_package_is_described_by_its_file(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Epochs are escaped in file names, and hashes are those of the files."""

    def download(command: list[str], **_: object) -> bytes:
        (tmp_path / "debs" / "zlib1g_1%3a1.3-1_amd64.deb").write_bytes(b"abc")
        return b""

    (tmp_path / "debs" / "zlib1g_1%3a1.2-9_amd64.deb").write_bytes(b"older")
    monkeypatch.setattr(packages, "run_tool", download)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path = tmp_path / "debs" / "zlib1g_1%3a1.3-1_amd64.deb"
    assert archive.fetch(["zlib1g"]) == [Package("zlib1g", "1:1.3-1", digest, path)]
