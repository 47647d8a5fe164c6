"""Files in and out: a tar disk made before the run, a tar stream unpacked after it."""

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

BLOCK = 1 << 20


class TransferError(Exception):
    """A --put or --get cannot be done.  Names the path."""


def pack_puts(pairs: Sequence[tuple[Path, str]], disk: Path) -> None:
    """A raw disk that is a tar with absolute names; padded, a disk has whole sectors."""
    with tarfile.open(disk, "w") as archive:
        for local, remote in pairs:
            if not local.exists():
                raise TransferError(f"--put {local}: no such file or directory")
            archive.add(local, arcname=remote.lstrip("/"))
    with disk.open("ab") as file:
        file.truncate(-(-file.tell() // BLOCK) * BLOCK)


def unpack_gets(stream: Path, pairs: Sequence[tuple[str, Path]]) -> list[str]:
    """Puts member N of the stream where pair N says.

    A file goes under a directory that exists; a directory is merged into one.
    Returns the remote paths that did not come.
    """
    arrived = set()
    if stream.stat().st_size:
        with tarfile.open(stream, "r:") as archive:
            for member in archive:
                number, _, rest = member.name.partition("/")
                remote, local = pairs[int(number)]
                arrived.add(int(number))
                if not rest and not member.isdir() and local.is_dir():
                    rest = Path(remote).name
                place_member(archive, member, local / rest if rest else local)
    return [remote for number, (remote, _) in enumerate(pairs) if number not in arrived]


def place_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        target.mkdir(exist_ok=True)
    elif member.issym():
        target.unlink(missing_ok=True)
        target.symlink_to(member.linkname)
    elif source := archive.extractfile(member):
        with target.open("wb") as file:
            shutil.copyfileobj(source, file)
        target.chmod(member.mode & 0o777)
