"""containerd's own client, as the end-to-end tests use it.

Every call is a `ctr` process with its output taken; nothing here speaks to the
shim.  Containers made through a Ctr are removed by its close().
"""

import itertools
import os
import subprocess
import time
from dataclasses import dataclass
from functools import cache

SAMPAN = "io.containerd.sampan.v2"
RUNC = "io.containerd.runc.v2"
BUSYBOX = "localhost/sampan/busybox:1"
DEBIAN = "localhost/sampan/debian:1"
TIMEOUT_S = 280  # an emulated host is 20 to 30 times slower than a real one


@dataclass(frozen=True)
class Finished:
    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"status {self.status}\nstdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-2000:]}"


@cache
def read_options() -> frozenset[str]:
    """Of `ctr run`: that of containerd 1.6 has neither --user nor --hostname."""
    shown = subprocess.run(["ctr", "run", "--help"], capture_output=True, text=True, check=True)
    return frozenset(word.rstrip(",") for word in shown.stdout.split() if word.startswith("--"))


def keep_known(*options: tuple[str, ...]) -> tuple[str, ...]:
    """The words of those options that this `ctr run` has."""
    return tuple(word for words in options if words[0] in read_options() for word in words)


class Ctr:
    """One runtime, one prefix of container ids.  No id comes twice in a run of the tests:
    what one test leaves behind is not in the way of the others."""

    _ids = itertools.count(1)

    def __init__(self, runtime: str = SAMPAN, prefix: str = "t") -> None:
        self.runtime = runtime
        self._prefix = f"{prefix}-{os.getpid()}"
        self._made: list[str] = []

    def new_id(self) -> str:
        name = f"{self._prefix}-{next(self._ids)}"
        self._made.append(name)
        return name

    def command(
        self, *arguments: str, stdin: bytes | None = None, timeout_s: float = TIMEOUT_S
    ) -> Finished:
        done = subprocess.run(
            ["ctr", *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return Finished(
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )

    def run_arguments(self, image: str, name: str, flags: tuple[str, ...]) -> list[str]:
        return ["run", "--runtime", self.runtime, *flags, image, name]

    def run(
        self,
        *command: str,
        image: str = BUSYBOX,
        flags: tuple[str, ...] = (),
        name: str | None = None,
        stdin: bytes | None = None,
    ) -> Finished:
        """`ctr run --rm`, to its end."""
        name = name or self.new_id()
        arguments = self.run_arguments(image, name, ("--rm", *flags))
        done = self.command(*arguments, *command, stdin=stdin)
        if "ctr: " not in done.stderr:  # it has removed the container
            self._forget(name)
        return done

    def popen(
        self, *command: str, image: str = BUSYBOX, flags: tuple[str, ...] = ()
    ) -> tuple[str, "subprocess.Popen[bytes]"]:
        """`ctr run --rm` with pipes, running."""
        name = self.new_id()
        process = subprocess.Popen(
            ["ctr", *self.run_arguments(image, name, ("--rm", *flags)), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return name, process

    def start(self, *command: str, image: str = BUSYBOX, flags: tuple[str, ...] = ()) -> str:
        """`ctr run -d`; answers the container's id."""
        name = self.new_id()
        done = self.command(*self.run_arguments(image, name, ("--detach", *flags)), *command)
        assert done.status == 0, f"ctr run -d: {done}"
        return name

    def exec(
        self,
        name: str,
        *command: str,
        flags: tuple[str, ...] = (),
        exec_id: str | None = None,
        stdin: bytes | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Finished:
        arguments = ["--exec-id", exec_id or f"x{next(self._ids)}", *flags, name, *command]
        return self.command("task", "exec", *arguments, stdin=stdin, timeout_s=timeout_s)

    def shell(self, name: str, script: str, flags: tuple[str, ...] = ()) -> Finished:
        return self.exec(name, "sh", "-c", script, flags=flags)

    def kill(self, name: str, signal: str = "SIGKILL", flags: tuple[str, ...] = ()) -> Finished:
        return self.command("task", "kill", "--signal", signal, *flags, name)

    def list_tasks(self) -> dict[str, tuple[int, str]]:
        """Pid and status by container, as `ctr task ls` has them."""
        lines = self.command("task", "ls").stdout.splitlines()[1:]
        rows = [line.split() for line in lines if line]
        return {name: (int(pid), status) for name, pid, status in rows}

    def status(self, name: str) -> str:
        """Empty when it is not listed."""
        return self.list_tasks().get(name, (0, ""))[1]

    def wait_status(self, name: str, wanted: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while (status := self.status(name)) != wanted:
            assert time.monotonic() < deadline, f"{name} is {status!r}, never {wanted!r}"

    def task_pid(self, name: str) -> int:
        tasks = self.list_tasks()
        assert name in tasks, f"no task {name}: {tasks}"
        return tasks[name][0]

    def remove(self, name: str) -> None:
        self.command("task", "rm", "--force", name)
        self.command("container", "rm", name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._made = [other for other in self._made if other != name]

    def close(self) -> None:
        if not self._made:
            return
        listed = self.command("container", "ls", "-q").stdout.split()
        for name in list(self._made):
            if name in listed:
                self.remove(name)
        self._made.clear()
