"""Container stdio: nothing lost, nothing mixed, ends where it should."""

import hashlib
import os
import pty
import select
import subprocess
import time

from tests.e2e.ctr import BUSYBOX, DEBIAN, TIMEOUT_S, Ctr, keep_known

MIB = 1 << 20
BIG = 256 * MIB


def test_stdout_and_stderr_are_apart(ctr: Ctr) -> None:
    done = ctr.run("sh", "-c", "echo out; echo err >&2; echo out2; exit 3")
    assert (done.status, done.stdout, done.stderr) == (3, "out\nout2\n", "err\n"), done


def test_dev_stdout_can_be_opened_also_by_a_user(ctr: Ctr) -> None:
    """A pipe or pty of the user's own, never a socket (ENXIO at open)."""
    flags = keep_known(("--user", "1000"))
    done = ctr.run("sh", "-c", "echo a > /dev/stdout; echo b > /dev/stderr", flags=flags)
    assert (done.status, done.stdout, done.stderr) == (0, "a\n", "b\n"), done


def test_eight_mib_and_an_exit_at_once_lose_nothing(ctr: Ctr) -> None:
    script = "import os; d = b'x' * (8 << 20)\nwhile d: d = d[os.write(1, d):]\nos._exit(5)"
    _name, process = ctr.popen("python3", "-c", script, image=DEBIAN)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, len(out)) == (5, 8 * MIB), err


def test_256_mib_through_stdout(ctr: Ctr) -> None:
    script = f"head -c {BIG} /dev/zero | tr '\\0' 'q'"
    _name, process = ctr.popen("sh", "-c", script)
    digest, length = hashlib.sha256(), 0
    assert process.stdout is not None
    while block := process.stdout.read(MIB):
        digest.update(block)
        length += len(block)
    process.communicate(timeout=TIMEOUT_S)
    expected = hashlib.sha256()
    for _ in range(BIG // MIB):
        expected.update(b"q" * MIB)
    assert (process.returncode, length, digest.digest()) == (0, BIG, expected.digest())


def test_256_mib_through_stdin_until_close_io(ctr: Ctr) -> None:
    _name, process = ctr.popen("sha256sum")
    block = os.urandom(MIB)
    digest = hashlib.sha256()
    assert process.stdin is not None
    for _ in range(BIG // MIB):
        process.stdin.write(block)
        digest.update(block)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, err
    assert out.split()[0].decode() == digest.hexdigest()


def test_stdin_ends_when_the_client_closes_it(ctr: Ctr) -> None:
    done = ctr.run("sh", "-c", "cat; echo end", stdin=b"first\nsecond\n")
    assert (done.status, done.stdout) == (0, "first\nsecond\nend\n"), done


def test_a_program_that_ignores_stdin_ends_all_the_same(ctr: Ctr) -> None:
    done = ctr.run("true", stdin=b"x" * MIB)
    assert done.status == 0, done


def test_terminal_has_a_size_and_follows_it(ctr: Ctr) -> None:
    """The program sees the size of the client's terminal, and its changes."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    name = ctr.new_id()
    script = (
        "test -t 0 && test -t 1 && echo tty; trap 'stty size; exit 0' WINCH; stty size; echo go;"
        " while :; do sleep 0.1; done"
    )
    process = subprocess.Popen(
        ["ctr", *ctr.run_arguments(BUSYBOX, name, ("--rm", "--tty")), "sh", "-c", script],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        seen = read_until(master, b"go\n")
        assert b"tty\n" in seen
        assert b"33 101" in seen
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 122, 0, 0))
        os.kill(process.pid, 28)  # SIGWINCH: it is not the session's foreground group
        assert b"44 122" in read_until(master, b"44 122")
        assert process.wait(timeout=TIMEOUT_S) == 0
    finally:
        os.close(master)
        if process.poll() is None:
            process.kill()
            process.wait()


def read_until(fd: int, wanted: bytes) -> bytes:
    """Without the carriage returns: ctr leaves output processing on, so there are two a line."""
    seen = b""
    deadline = time.monotonic() + TIMEOUT_S
    while wanted not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{wanted!r} never came: {seen!r}"
        try:
            block = os.read(fd, 65536)
        except OSError:
            block = b""
        assert block, f"ended before {wanted!r}: {seen!r}"
        seen += block.replace(b"\r", b"")
    return seen
