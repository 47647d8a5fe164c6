"""Another suite is found on the machine's own mirror, from what apt itself prints."""

from tests.testhost.mirror import Source, derive_uris


def printed(*paths: str) -> list[str]:
    return [f"'{path}/InRelease' some_file_name 0 " for path in paths]


def test_the_mirror_is_the_one_of_the_machines_debian_sources() -> None:
    lines = printed(
        "http://mirror.test/debian/dists/bookworm",
        "http://mirror.test/debian/dists/bookworm-updates",
    )
    assert derive_uris(lines) == ["http://mirror.test/debian"]


def test_security_and_other_vendors_archives_are_passed_over() -> None:
    lines = printed(
        "http://mirror.test/debian-security/dists/bookworm-security",
        "https://vendor.test/node/dists/nodistro",
        "https://vendor.test/apt/dists/cloud-sdk-bookworm",
    )
    assert derive_uris(lines) == []


def test_a_dated_snapshot_is_tried_before_the_undated_path_beside_it() -> None:
    lines = printed("http://mirror.test/archive/debian/20250520T000000Z/dists/bookworm")
    assert derive_uris(lines) == [
        "http://mirror.test/archive/debian/20250520T000000Z",
        "http://mirror.test/debian",
    ]


def test_a_port_and_a_path_before_the_archive_are_kept() -> None:
    lines = printed("http://10.0.0.1:3142/some/debian/dists/trixie")
    assert derive_uris(lines) == ["http://10.0.0.1:3142/some/debian"]


def test_lines_that_are_not_release_files_are_ignored() -> None:
    assert derive_uris(["Reading package lists...", "", "'http://x.test/debian/README' x 0"]) == []


def test_a_source_line_is_verified_against_debians_keyring() -> None:
    line = Source("http://mirror.test/debian", "trixie").to_line()
    assert line.startswith("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ")
    assert line.endswith("http://mirror.test/debian trixie main")
