"""A directory served by the FUSE server to this machine's own kernel, over /dev/fuse.

Share is a context manager: `root` is what the client sees, `source` the same files on
the host.  Policy "direct" serves nothing: root and source are one, so that a test can
be shown to pass without the server.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

TREE = Path(__file__).resolve().parents[2]
SOURCES = TREE / "native/src"
TRANSPORT = SOURCES / "fuse/device.c"
NEEDED = SOURCES / "memory/iovec.c"
USER = 65534
"""A user that is not root: nobody."""


def build_server(output: Path) -> Path:
    sources = [NEEDED, *(path for path in SOURCES.glob("fuse/*.c") if path != TRANSPORT)]
    command = ["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g", "-pthread", f"-I{SOURCES}"]
    command += [str(TREE / "tests/native/fuse_mount.c"), *map(str, sources), "-o", str(output)]
    subprocess.run(command, check=True)
    return output


class Share:
    """Lifecycle: `with Share(...) as share`; unmounted and ended at exit."""

    def __init__(
        self,
        server: Path,
        work: Path,
        policy: str,
        base: str = "plain",
        options: Sequence[str] = (),
        own_mount_writable: bool = True,
        before: Sequence[str] = (),
    ) -> None:
        """`before`: the words of a command that the server is run by."""
        self._before = before
        self._server = server
        self._work = work
        self._policy = policy
        self._base = base
        self._options = (*options, "-w") if own_mount_writable else options
        self._stack = ExitStack()
        self.source = work / "source"
        self.root = self.source
        self.requests: dict[int, int] = {}
        """By opcode, after the exit."""

    def __enter__(self) -> Self:
        self._work.chmod(0o755)
        self.source.mkdir()
        with ExitStack() as stack:
            if self._base == "overlay":
                self._mount_overlay(stack)
            self.source.chmod(0o777)
            if self._policy != "direct":
                self._serve(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _mount_overlay(self, stack: ExitStack) -> None:
        for name in ("lower", "upper", "scratch"):
            (self._work / name).mkdir()
        options = ",".join(
            f"{key}={self._work / name}"
            for key, name in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "scratch"))
        )
        stack.enter_context(mounted(["-t", "overlay", "-o", options, "overlay"], self.source))

    def _serve(self, stack: ExitStack) -> None:
        self.root = self._work / "root"
        self.root.mkdir()
        command = [str(self._server), "-c", "-p", self._policy, *self._options]
        server = stack.enter_context(
            subprocess.Popen(
                [*self._before, *command, str(self.source), str(self.root)],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert server.stdout is not None
        stack.callback(self._stop, server)
        assert server.stdout.readline() == "READY\n", "the server did not start"

    def _stop(self, server: subprocess.Popen[str]) -> None:
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)
        told, _ = server.communicate(timeout=30)
        assert server.returncode == 0, f"the server ended with {server.returncode}"
        lines = (line.removeprefix("opcode ").split(": ") for line in told.splitlines())
        self.requests = {int(opcode): int(count) for opcode, count in lines}


@contextmanager
def mounted(arguments: Sequence[str], target: Path) -> Iterator[None]:
    """Unmounts as the shim does: at once, though the server still knows files of it."""
    subprocess.run(["mount", *arguments, str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)


def run_as(
    user: int, command: str, cwd: Path, *, groups: Sequence[int] = (), umask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    """Runs a shell command as another user, without capabilities."""
    return subprocess.run(
        ["sh", "-c", command],
        cwd=cwd,
        user=user,
        group=user,
        extra_groups=groups,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
