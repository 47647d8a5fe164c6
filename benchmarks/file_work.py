"""Work on files, timed: what a container does in its root and on its volumes.

Runs in the container (`python3 -c`), with the standard library and the image's programs, and
prints a JSON object of seconds, MiB/s or operations a second by name.
Arguments: a directory to make and to work in, one with files that the guest has not read.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SMALL_FILES = 1000
BIG_MIB = 64
FIO_MIB = 16
CHUNK_BYTES = 1 << 20
SOURCES = 8
TRANSACTIONS = 100
COMMITTED_FILES = 300
WHEELS = Path("/usr/share/python-wheels")
LIBRARY = Path("/usr/lib/python3.13")

Work = Callable[[Path], None]


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds(work: Work, directory: Path) -> float:
    directory.mkdir()
    start = time.monotonic()
    work(directory)
    return time.monotonic() - start


def make_small_files(directory: Path) -> None:
    for number in range(SMALL_FILES):
        (directory / str(number)).write_text(str(number))
    for entry in os.scandir(directory):
        entry.stat()
    shutil.rmtree(directory)


def unpack(directory: Path) -> None:
    run("tar", "--extract", "--directory", str(directory), "--file", str(directory.parent / "tar"))


def pack(directory: Path) -> None:
    """The archive that `unpack` unpacks; not timed."""
    files = [path.name for path in LIBRARY.glob("*.py")]
    run("tar", "--create", "--directory", str(LIBRARY), "--file", str(directory / "tar"), *files)


def compile_program(directory: Path) -> None:
    for number in range(SOURCES):
        text = f'#include <stdio.h>\nint f{number}(int a) {{ return printf("%d", a); }}\n'
        (directory / f"{number}.c").write_text(text)
    (directory / "main.c").write_text("int main(void) { return 0; }\n")
    for path in directory.glob("*.c"):
        run("gcc", "-c", str(path), "-o", str(path.with_suffix(".o")))
    objects = [str(path) for path in directory.glob("*.o")]
    run("gcc", *objects, "-o", str(directory / "program"))


def install_wheel(directory: Path) -> None:
    (wheel, *_) = WHEELS.glob("pip-*.whl")
    python = ("python3", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    run(*python, "--no-compile", "--target", str(directory), str(wheel))


def make_repository(directory: Path) -> None:
    """The repository that `clone` clones; not timed."""
    repository = directory / "repository"
    repository.mkdir()
    for number in range(COMMITTED_FILES):
        (repository / str(number)).write_text(f"{number}\n" * 100)
    git = ("git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@y")
    run(*git, "init")
    run(*git, "add", ".")
    run(*git, "commit", "--message", "x")


def clone(directory: Path) -> None:
    source = f"file://{directory.parent / 'repository'}"
    run("git", "clone", source, str(directory / "clone"))


def write_database(directory: Path) -> None:
    with sqlite3.connect(directory / "db") as database:
        database.execute("create table t (n integer primary key, text)")
        for number in range(TRANSACTIONS):
            database.execute("insert into t values (?, ?)", (number, "x" * 100))
            database.commit()
        assert database.execute("select count(*) from t").fetchone() == (TRANSACTIONS,)


def read_all(directory: Path) -> float:
    """MiB/s, of up to BIG_MIB that are in the host's page cache and not in the guest's."""
    paths = [path for path in sorted(directory.iterdir()) if path.is_file()]
    left = BIG_MIB * CHUNK_BYTES
    start = time.monotonic()
    for path in paths:
        if left <= 0:
            break
        with path.open("rb", buffering=0) as file:
            while data := file.read(CHUNK_BYTES):
                left -= len(data)
    return (BIG_MIB - left / CHUNK_BYTES) / (time.monotonic() - start)


def write_big(path: Path) -> float:
    """MiB/s, until all of it is on the host's disk."""
    start = time.monotonic()
    with path.open("wb", buffering=0) as file:
        for _ in range(BIG_MIB):
            file.write(bytes(CHUNK_BYTES))
        os.fsync(file.fileno())
    return BIG_MIB / (time.monotonic() - start)


def run_fio(directory: Path, kind: str) -> float:
    """Operations a second, of 4 KiB at random offsets."""
    job = [f"--name={kind}", f"--filename={directory / 'fio'}", f"--rw=rand{kind}"]
    job += ["--bs=4k", f"--size={FIO_MIB}m", "--ioengine=psync", "--invalidate=0"]
    command = ["fio", *job, "--output-format=json"]
    told = subprocess.run(command, check=True, capture_output=True, cwd=directory).stdout
    (done,) = json.loads(told)["jobs"]
    took_s = (done["job_runtime"] or 1) / 1000
    return float(done[kind]["total_ios"]) / took_s


WORKS: dict[str, Work] = {
    "small": make_small_files,
    "unpack": unpack,
    "compile": compile_program,
    "install": install_wheel,
    "clone": clone,
    "database": write_database,
}


def main(top: Path, unread: Path) -> None:
    top.mkdir()
    pack(top)
    make_repository(top)
    found = {f"{name}_s": seconds(work, top / name) for name, work in WORKS.items()}
    found["read_mib_s"] = read_all(unread)
    found["write_mib_s"] = write_big(top / "written")
    for kind in ("write", "read"):
        found[f"random_{kind}_s"] = run_fio(top, kind)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
