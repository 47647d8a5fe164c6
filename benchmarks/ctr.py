"""containerd's client `ctr`, with clocks around it."""

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 300
"""An emulated host is 20 to 30 times slower than a real one."""
CHUNK_BYTES: Final = 1 << 20
POLL_S: Final = 0.5

_numbers = itertools.count(1)


class CtrError(Exception):
    """A ctr command failed; names it and quotes its output."""


@dataclass(frozen=True, slots=True)
class Runtime:
    name: str
    type: str
    flags: tuple[str, ...] = ()
    """Of `ctr run`."""
    waits_for: str = ""
    """The name of a process that must exist before a container is started."""

    def with_flags(self, *flags: str) -> "Runtime":
        return replace(self, flags=(*self.flags, *flags))

    def run(self, option: str) -> tuple[str, ...]:
        """The words of `ctr run` before the image."""
        return "run", option, "--runtime", self.type, *self.flags


@dataclass(frozen=True, slots=True)
class Output:
    """What a ctr command printed, by the monotonic clock."""

    start_ns: int
    first_byte_ns: int
    last_byte_ns: int
    end_ns: int
    bytes_read: int


def wait_for(runtime: Runtime) -> None:
    """CtrError when the process does not appear."""
    deadline = time.monotonic() + TIMEOUT_S
    while runtime.waits_for and not find_process(runtime.waits_for):
        if time.monotonic() > deadline:
            raise CtrError(f"{runtime.name}: there is no process {runtime.waits_for}")
        time.sleep(POLL_S)


def find_process(name: str) -> int:
    """Its pid; 0 if there is none."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == name:
                return int(entry.name)
    return 0


def new_name(runtime: Runtime) -> str:
    return f"bench-{runtime.name}-{os.getpid()}-{next(_numbers)}"


def run_ctr(*arguments: str) -> str:
    done = subprocess.run(
        ["ctr", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise CtrError(f"ctr {' '.join(arguments)}: status {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def time_output(*arguments: str) -> Output:
    """Runs ctr to its end; what it prints is counted, not kept."""
    start_ns = time.monotonic_ns()
    first_ns = last_ns = 0
    count = 0
    with subprocess.Popen(
        ["ctr", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while data := os.read(process.stdout.fileno(), CHUNK_BYTES):
            last_ns = time.monotonic_ns()
            first_ns = first_ns or last_ns
            count += len(data)
        said = process.stderr.read().decode(errors="replace")
        status = process.wait(TIMEOUT_S)
    end_ns = time.monotonic_ns()
    if status != 0 or count == 0:
        raise CtrError(
            f"ctr {' '.join(arguments)}: status {status}, {count} bytes printed: {said[-500:]}"
        )
    return Output(start_ns, first_ns, last_ns, end_ns, count)


def time_run(runtime: Runtime, image: str, *command: str) -> Output:
    """`ctr run --rm`, until the container has been removed."""
    wait_for(runtime)
    name = new_name(runtime)
    return time_output(*runtime.run("--rm"), image, name, *command)


def run_exec(name: str, *command: str) -> str:
    return run_ctr("task", "exec", "--exec-id", f"x{next(_numbers)}", name, *command)


def time_exec(name: str, *command: str) -> Output:
    return time_output("task", "exec", "--exec-id", f"x{next(_numbers)}", name, *command)


@contextmanager
def running(runtime: Runtime, image: str, *command: str) -> Iterator[str]:
    """A container in the background, removed at the end."""
    wait_for(runtime)
    name = new_name(runtime)
    try:
        run_ctr(*runtime.run("--detach"), image, name, *command)
        yield name
    finally:
        for arguments in (("task", "rm", "--force", name), ("container", "rm", name)):
            subprocess.run(["ctr", *arguments], capture_output=True, timeout=TIMEOUT_S, check=False)
