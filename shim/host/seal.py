"""A directory's seal: what its files were when they were complete.

A file that is not so any more is not opened: one with other content (ctime tells, even if
mtime was set back), another file in its place, one of another owner or that others may
write to, a symbolic link.  Nothing is read for that but a small file, `seal`; where the
file system has fs-verity, the kernel compares what is read with the digest in it.

Hazard: without fs-verity this says nothing of a file's content: neither an error of the
disk nor what is written to the disk below the file system changes ctime.  And whoever may
write a new seal, root, can change anything.
Spec: stat(2), open(2).
"""

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

from shim.errors import HostResource
from shim.host.verity import enable_verity, measure_verity

SEAL: Final = "seal"
TICKS_S: Final = 0.02
"""At least two ticks of the kernel's clock, from which it takes ctime (CONFIG_HZ)."""
OPEN: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO in a file's place: no wait
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

Fields = dict[str, int | str]


def seal_directory(path: str, names: Iterable[str], outside: Iterable[str] = ()) -> None:
    """Writes the seal of the files that exist; a former one is replaced.

    No descriptor of a file may be open for writing.  `outside`: absolute paths of files
    that others may own and write to; a change of theirs is found like any other.
    """
    with OwnDirectory(path) as directory:
        present = [name for name in names if os.path.lexists(f"{path}/{name}")]
        files = {name: _seal_file(directory, name) for name in present}
    for name in outside:
        fd = _open(name, OPEN, name)
        try:
            files[name] = _describe(fd)
        finally:
            os.close(fd)
    temporary = f"{path}/.{SEAL}"
    # Hazard: a change in the tick of the last one would leave ctime as it is.
    time.sleep(TICKS_S)
    with open(temporary, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump(files, file)
    os.rename(temporary, f"{path}/{SEAL}")


def _seal_file(directory: "OwnDirectory", name: str) -> Fields:
    fd = directory.open(name)
    try:
        enable_verity(fd)  # first: it may change the times
        return _describe(fd)
    finally:
        os.close(fd)


def _describe(fd: int) -> Fields:
    found = os.fstat(fd)
    return {
        "inode": found.st_ino,
        "owner": found.st_uid,
        "mode": oct(found.st_mode),
        "size": found.st_size,
        "mtime": found.st_mtime_ns,
        "ctime": found.st_ctime_ns,
        "verity": measure_verity(fd),
    }


class OwnDirectory:
    """One that only this process's user can change, and whose entries nobody else can
    replace.  A context manager; HostResource names what is wrong."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = _open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, path)
        try:
            check_owned(os.fstat(self.fd), path)
            check_owned(os.stat("..", dir_fd=self.fd), os.path.dirname(path))
        except BaseException:
            os.close(self.fd)
            raise

    def open(self, name: str) -> int:
        """A file of our own, for reading."""
        path = f"{self.path}/{name}"
        fd = _open(name, OPEN | os.O_NOFOLLOW, path, self.fd)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise HostResource(f"{path}: no regular file")
            check_owned(found, path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)


class SealedDirectory(OwnDirectory):
    """A directory that has a seal: opens only files that are as they were."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        try:
            self._files = self._read_seal()
        except BaseException:
            os.close(self.fd)
            raise

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def _read_seal(self) -> dict[str, Fields]:
        path = f"{self.path}/{SEAL}"
        with open(super().open(SEAL), encoding="utf-8") as file:
            try:
                files = json.load(file)
            except ValueError as error:
                raise HostResource(f"{path}: {error}") from error
        if not isinstance(files, dict):
            raise HostResource(f"{path}: no object")
        return files

    def open(self, name: str) -> int:
        return self._open_sealed(name, f"{self.path}/{name}", super().open)

    def open_outside(self, path: str) -> int:
        return self._open_sealed(path, path, lambda path: _open(path, OPEN, path))

    def _open_sealed(self, name: str, path: str, open_file: Callable[[str], int]) -> int:
        sealed = self._files.get(name)
        if not isinstance(sealed, dict):
            raise HostResource(f"{path}: not in the seal of {self.path}")
        fd = open_file(name)
        try:
            compare(sealed, _describe(fd), path)
        except BaseException:
            os.close(fd)
            raise
        return fd


def compare(sealed: dict[str, Any], found: Fields, path: str) -> None:
    changes = [
        f"{field} is {value!r}, was {sealed.get(field)!r}"
        for field, value in found.items()
        if value != sealed.get(field)
    ]
    if changes:
        raise HostResource(f"{path}: changed since it was sealed: {', '.join(changes)}")


def check_owned(found: os.stat_result, path: str) -> None:
    if found.st_uid != os.geteuid():
        raise HostResource(f"{path}: its owner is user {found.st_uid}, not {os.geteuid()}")
    if found.st_mode & OTHERS_WRITE:
        raise HostResource(f"{path}: others may write to it: mode {oct(found.st_mode)}")


def _open(name: str, flags: int, path: str, directory: int | None = None) -> int:
    try:
        return os.open(name, flags, dir_fd=directory)
    except OSError as error:
        reason = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise HostResource(f"{path}: {reason}") from error
