"""--put and --get move files and directories whole."""

import io
import tarfile
from pathlib import Path

import pytest

from tests.testhost.transfer import BLOCK, TransferError, pack_puts, unpack_gets


def fetched(path: Path, members: dict[str, bytes | None]) -> Path:
    """A stream as the host sends it: names start with the number of the --get."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o755 if data is None else 0o640
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data or b""))
    return path


def test_a_put_directory_arrives_below_its_remote_name(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_bytes(b"\x00binary")
    disk = tmp_path / "disk"
    pack_puts([(tmp_path / "d", "/srv/x")], disk)
    with tarfile.open(disk) as tar:
        assert {"srv/x", "srv/x/e", "srv/x/e/f"} == set(tar.getnames())


def test_the_disk_of_puts_has_whole_sectors_even_when_empty(tmp_path: Path) -> None:
    pack_puts([], tmp_path / "disk")
    size = (tmp_path / "disk").stat().st_size
    assert size > 0
    assert size % BLOCK == 0


def test_a_put_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="absent"):
        pack_puts([(tmp_path / "absent", "/x")], tmp_path / "disk")


def test_a_file_is_fetched_to_its_local_name(tmp_path: Path) -> None:
    stream = fetched(tmp_path / "s", {"0": b"\x00data"})
    assert unpack_gets(stream, [("/var/log/x", tmp_path / "deep/name")]) == []
    assert (tmp_path / "deep/name").read_bytes() == b"\x00data"
    assert (tmp_path / "deep/name").stat().st_mode & 0o777 == 0o640


def test_a_file_fetched_into_a_directory_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    stream = fetched(tmp_path / "s", {"0": b"data"})
    unpack_gets(stream, [("/var/log/x", tmp_path / "out")])
    assert (tmp_path / "out/x").read_bytes() == b"data"


def test_a_directory_is_merged_into_one_that_exists(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    stream = fetched(tmp_path / "s", {"0": None, "0/sub": None, "0/sub/new": b"n"})
    unpack_gets(stream, [("/results", tmp_path / "out")])
    assert (tmp_path / "out/old").exists()
    assert (tmp_path / "out/sub/new").read_bytes() == b"n"


def test_what_did_not_come_is_reported(tmp_path: Path) -> None:
    stream = fetched(tmp_path / "s", {"1": b"x"})
    wanted = [("/gone", tmp_path / "a"), ("/there", tmp_path / "b")]
    assert unpack_gets(stream, wanted) == ["/gone"]
    assert unpack_gets(fetched(tmp_path / "t", {}), wanted) == ["/gone", "/there"]
