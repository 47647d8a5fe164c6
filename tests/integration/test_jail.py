"""A vmm that has been taken over: nothing forbidden works, from any kind of its threads."""

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.build import COMPILE
from native.ffi import lib
from shim.host.pidns import new_pid_namespace
from shim.machine.directory import SandboxDirectory, SandboxKey
from shim.machine.shares import ShareTree
from shim.vmm.jail.calls import Kind, keep_capabilities
from shim.vmm.jail.filters import INSTRUCTION_BYTES, make_filters

TREE = Path(__file__).parents[2]
SOURCE = TREE / "tests/native/hostile_vmm.c"
NATIVE = TREE / "native/src"
SIGSYS = -31
NOTHING_HELD = {
    # The call itself is allowed, for use on the shares; here it found nothing, or was
    # refused.
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EXDEV,
    errno.EBADF,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EFAULT,
    errno.ESRCH,
}
HARMLESS = frozenset(
    (
        "open /proc/self/mem",
        "mount",
        "umount",
        "open_tree",
        "fsopen",
        "chroot",
        "unshare mounts",
        "unshare network",
        "fork",
        "executable memory",
        "a page made executable",
        "memfd_create",
        "sethostname",
        "TCP",
        "packets",
        "netlink",
        "a unix socket",
    )
)
pytestmark = pytest.mark.usefixtures("_shared_mounts")


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("hostile") / "hostile_vmm"
    sources = [SOURCE, *(NATIVE / "jail").glob("*.c")]
    subprocess.run(["cc", *COMPILE, f"-I{NATIVE}", "-o", target, *sources], check=True)
    return target


@pytest.fixture(scope="session")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules"
    filters = make_filters(saves=False, logs=False)
    with path.open("wb") as file:
        for kind in Kind:
            program = filters[kind]
            head = (keep_capabilities(kind), len(program) // INSTRUCTION_BYTES)
            file.write(struct.pack("=QQ", *head) + program)
    return path


def attempt(
    hostile: Path,
    jail: tuple[ShareTree, list[str]],
    rules: Path,
    kind: Kind,
    when: str,
    number: int,
) -> subprocess.CompletedProcess[str]:
    shares, place = jail
    command = [str(hostile), *place, str(rules), str(int(kind)), when, str(number)]
    with new_pid_namespace():
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, pass_fds=[shares.shared],
        )  # fmt: skip
    out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def list_attempts(hostile: Path) -> list[str]:
    return subprocess.run(
        [hostile, "list"], check=True, capture_output=True, text=True
    ).stdout.splitlines()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.THREADS])
def test_nothing_forbidden_works_from_this_kind_of_thread(
    hostile: Path, tmp_path: Path, rules: Path, kind: Kind, when: str
) -> None:
    """A tree is the root of one vmm, so each attempt has its own."""
    names = list_attempts(hostile)
    assert len(names) >= 60
    out = []
    for number, name in [(-1, ""), *enumerate(names)]:
        place = tmp_path / str(number)
        place.mkdir()
        for jail in jail_in(place):
            done = attempt(hostile, jail, rules, kind, when, number)
        if number < 0:
            assert (done.returncode, done.stdout) == (0, "well"), done
        elif not is_held(done):
            out.append(f"{name}: {done.returncode} {done.stdout} {done.stderr}")
    assert out == []


def test_without_rules_many_of_them_work(hostile: Path, tmp_path: Path) -> None:
    """The attempts are real: only the jail's rules make them fail."""
    rules = tmp_path / "none"
    rules.write_bytes(struct.pack("=QQ", (1 << 64) - 1, 0) * len(Kind))
    worked = set()
    for number, name in enumerate(list_attempts(hostile)):
        if name in HARMLESS:
            place = tmp_path / str(number)
            place.mkdir()
            for jail in jail_in(place):
                done = attempt(hostile, jail, rules, Kind.MAIN, "before", number)
            worked |= {name} if done.stdout.startswith("out") else set()
    assert worked == HARMLESS


def jail_in(place: Path) -> Iterator[tuple[ShareTree, list[str]]]:
    sandbox = SandboxDirectory(str(place / "sandbox"))
    sandbox.create(SandboxKey("c", "n", "s"))
    (place / "image").mkdir()
    shares = ShareTree.make(sandbox)
    yield shares, [str(shares.shared), str(place / "image"), sandbox.tree]
    shares.close()
    sandbox.remove()


def is_held(done: "subprocess.CompletedProcess[str]") -> bool:
    if done.returncode == SIGSYS:
        return done.stdout == ""
    word, _, number = done.stdout.partition(" ")
    return done.returncode == 0 and word == "held" and int(number) in NOTHING_HELD


def test_a_kernel_without_landlock_is_reported() -> None:
    fd = lib.jail_landlock()
    if fd >= 0:
        os.close(fd)
    assert fd >= 0 or fd in (-errno.EOPNOTSUPP, -errno.ENOENT)


def test_restricting_twice_is_refused(hostile: Path) -> None:
    """In a separate process, as it cannot be undone."""
    code = (
        "from native.ffi import ffi, lib\n"
        "rules = ffi.new('struct jail_rules[]', lib.JAIL_KINDS)\n"
        "for rule in rules[0:lib.JAIL_KINDS]: rule.capabilities = (1 << 64) - 1\n"
        "print(lib.jail_restrict(rules, -1, -1), lib.jail_restrict(rules, -1, -1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=TREE
    )
    assert done.stdout.split() == ["0", str(-errno.EBUSY)], done
