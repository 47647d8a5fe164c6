"""Programs of the host as hooks run them: real processes, a real Reaper (needs root).

The promises are those of OCI runtime spec 1.2 config.md "POSIX-platform Hooks".
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from shim.errors import HostResource
from shim.host.program import MAX_OUTPUT_BYTES, HostPrograms, Program, ProgramEnd
from shim.host.reaper import Reaper
from shim.oci.hooks import plan_hooks
from shim.sandbox.hooks import HostHooks

Run = Callable[..., Awaitable[ProgramEnd]]
DEADLINE_S = 30


@pytest.fixture
async def programs() -> AsyncIterator[HostPrograms]:
    mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    reaper = Reaper(asyncio.get_running_loop())
    yield HostPrograms(reaper, mounts, None)
    reaper.close()
    os.close(mounts)


@pytest.fixture
def sh(programs: HostPrograms, tmp_path: Path) -> Run:
    async def run(script: str, **changes: Any) -> ProgramEnd:
        words = ("sh", "-c", script)
        program = {"env": {}, "directory": str(tmp_path), "stdin": b"", **changes}
        return await programs.run(Program("/bin/sh", words, **program))

    return run


async def test_the_status_and_what_was_written(sh: Run) -> None:
    assert await sh("echo out; echo err >&2; exit 7") == ProgramEnd(7, "out\nerr")


async def test_a_signal_that_ended_it(sh: Run) -> None:
    assert (await sh("kill -TERM $$")).code == -15


async def test_the_input_is_whole_and_ends(sh: Run) -> None:
    assert await sh("wc -c", stdin=b"x" * 300_000) == ProgramEnd(0, "300000")


async def test_the_environment_is_the_hooks_alone(sh: Run) -> None:
    end = await sh("/usr/bin/env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=", env={"A": "b"})
    assert end.output == "A=b"


async def test_the_first_argument_may_differ_from_the_path(
    programs: HostPrograms, tmp_path: Path
) -> None:
    """As docker's hook has it, whose path is /proc/<pid>/exe."""
    busybox = Program("/bin/sh", ("libnetwork-setkey", "-c", "echo $0"), {}, str(tmp_path), b"")
    assert (await programs.run(busybox)).output == "libnetwork-setkey"


async def test_no_descriptor_is_inherited(sh: Run) -> None:
    reader, writer = os.pipe()
    try:
        end = await sh("ls /proc/self/fd")
    finally:
        os.close(reader)
        os.close(writer)
    assert end.output.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


async def test_it_leads_a_session_of_its_own_in_the_bundle(sh: Run, tmp_path: Path) -> None:
    end = await sh("cut -d' ' -f6 /proc/$$/stat; echo $$; pwd")
    session, pid, directory = end.output.split()
    assert (session, directory) == (pid, str(tmp_path))


async def test_it_runs_in_the_mount_namespace_that_is_named(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs x /mnt && echo hello >/mnt/file; read x",
        ],
        stdin=subprocess.PIPE,
    )
    mounts = f"/proc/{holder.pid}/ns/mnt"
    async with asyncio.timeout(DEADLINE_S):
        while not Path(f"/proc/{holder.pid}/root/mnt/file").exists():
            await asyncio.sleep(0.01)
    other = os.open(mounts, os.O_RDONLY | os.O_CLOEXEC)
    holder.communicate(b"\n")
    reaper = Reaper(asyncio.get_running_loop())
    cat = Program("/bin/cat", ("cat", "/mnt/file"), {}, "/", b"")
    try:
        end = await HostPrograms(reaper, other, None).run(cat)
    finally:
        reaper.close()
        os.close(other)
    assert end == ProgramEnd(0, "hello")
    assert not Path("/mnt/file").exists()


async def test_one_that_hangs_is_killed_with_its_group(sh: Run, tmp_path: Path) -> None:
    end = await sh("echo started; sleep 1000 & echo $! >child; wait", timeout_s=1)
    assert end == ProgramEnd(-9, "started", timed_out=True)
    child = int((tmp_path / "child").read_text())
    async with asyncio.timeout(DEADLINE_S):
        while is_running(child):
            await asyncio.sleep(0.01)


async def test_one_whose_caller_gives_up_is_killed(sh: Run, tmp_path: Path) -> None:
    running = asyncio.ensure_future(sh("echo $$ >own; exec sleep 1000"))
    own = tmp_path / "own"
    async with asyncio.timeout(DEADLINE_S):
        while not (own.exists() and own.read_text()):
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})
        while is_running(int(own.read_text())):
            await asyncio.sleep(0.01)


async def test_a_daemon_that_it_leaves_is_not_waited_for(sh: Run, tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S):
        assert await sh("sleep 1000 & echo $! >child; exit 0") == ProgramEnd(0, "")
    os.kill(int((tmp_path / "child").read_text()), 9)


async def test_of_endless_output_the_end_is_kept(sh: Run) -> None:
    end = await sh("head -c 3000000 /dev/zero | tr '\\0' x; echo last >&2")
    assert end.code == 0
    assert len(end.output) <= MAX_OUTPUT_BYTES
    assert end.output.endswith("xlast")


async def test_a_program_that_is_not_there(programs: HostPrograms) -> None:
    with pytest.raises(FileNotFoundError):
        await programs.run(Program("/no/such", ("x",), {}, "/", b""))


async def test_a_directory_that_is_gone(programs: HostPrograms) -> None:
    with pytest.raises(FileNotFoundError):
        await programs.run(Program("/bin/true", ("true",), {}, "/no/such", b""))


async def test_a_hook_gives_the_namespace_of_the_pid_an_interface(
    programs: HostPrograms, tmp_path: Path
) -> None:
    """What docker's prestart hook does: the state's pid leads to the network namespace."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    script = (
        "pid=$(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/'); "
        "ip link add sphook netns $pid type veth peer name sphook2 netns $pid"
    )
    env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": env}
    spec = {"ociVersion": "1.2.0", "hooks": {"prestart": [hook]}}
    hooks = HostHooks(plan_hooks(spec, "box", str(tmp_path)), holder.pid, programs.run)
    try:
        await wait_for_namespace(holder.pid)
        await hooks.run_created()
        listed = Path(f"/proc/{holder.pid}/net/dev").read_text()
    finally:
        holder.kill()
        holder.wait()
    assert "sphook" in listed


async def test_a_hook_that_hangs_is_an_error_that_names_it(
    programs: HostPrograms, tmp_path: Path
) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo here >&2; sleep 1000"], "timeout": 1}
    spec = {"ociVersion": "1.2.0", "hooks": {"createRuntime": [hook]}}
    hooks = HostHooks(plan_hooks(spec, "box", str(tmp_path)), os.getpid(), programs.run)
    with pytest.raises(HostResource) as told:
        await hooks.run_created()
    expected = "hooks.createRuntime[0]: /bin/sh: killed after its timeout of 1 s: here"
    assert str(told.value) == expected


async def wait_for_namespace(pid: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    """Not a zombie either."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] != "Z"
