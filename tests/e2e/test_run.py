"""`ctr run` of ordinary images: right output, right exit status, right errors."""

import platform
import time

import pytest

from tests.e2e.ctr import DEBIAN, TIMEOUT_S, Ctr


def test_busybox_prints_and_ends_with_zero(ctr: Ctr) -> None:
    done = ctr.run("echo", "hello from a microVM")
    assert (done.status, done.stdout) == (0, "hello from a microVM\n"), done


def test_the_kernel_is_the_guests_own(ctr: Ctr) -> None:
    """A microVM and not a namespace: another boot id, another machine's uptime."""
    done = ctr.run("cat", "/proc/sys/kernel/random/boot_id")
    with open("/proc/sys/kernel/random/boot_id") as own:
        assert done.status == 0
        assert done.stdout.strip() != own.read().strip()
    assert platform.system() == "Linux"


def test_exit_status_is_the_programs(ctr: Ctr) -> None:
    assert ctr.run("sh", "-c", "exit 7").status == 7


def test_killed_by_a_signal_is_128_and_the_signal(ctr: Ctr) -> None:
    """Not by itself: a namespace's PID 1 cannot, here as under runc."""
    script = "sleep 1000 & sh -c 'kill -9 $0' $!; wait $!; exit $?"
    assert ctr.run("sh", "-c", script).status == 137


def test_missing_program_is_a_start_error_that_names_it(ctr: Ctr) -> None:
    done = ctr.run("/no/such/program")
    assert done.status != 0
    assert "/no/such/program" in done.stderr
    assert "no such file or directory" in done.stderr.lower(), done


def test_program_missing_on_the_path_is_named(ctr: Ctr) -> None:
    done = ctr.run("nosuchprogram")
    assert done.status != 0
    assert "nosuchprogram" in done.stderr
    assert "not found" in done.stderr.lower() or "no such file" in done.stderr.lower(), done


def test_program_without_x_bit_is_a_start_error(ctr: Ctr) -> None:
    done = ctr.run("/etc/passwd")
    assert done.status != 0
    assert "/etc/passwd" in done.stderr
    assert "permission denied" in done.stderr.lower(), done


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("python3", "-c", "import sys, ssl, json; print(sys.version_info.major)"), "3\n"),
        (("sh", "-c", "seq 1 1000 | grep 7 | sort -rn | head -1"), "997\n"),
        (
            (
                "sh",
                "-c",
                "echo 'int main(){return 40+2;}' > /tmp/a.c && gcc -o /tmp/a /tmp/a.c; /tmp/a;"
                " echo $?",
            ),
            "42\n",
        ),
    ],
    ids=["python", "pipeline", "compiler"],
)
def test_debian_runs_real_programs(ctr: Ctr, command: tuple[str, ...], expected: str) -> None:
    done = ctr.run(*command, image=DEBIAN)
    assert (done.status, done.stdout) == (0, expected), done


def test_apt_get_tells_its_version(ctr: Ctr) -> None:
    done = ctr.run("apt-get", "--version", image=DEBIAN)
    assert done.status == 0
    assert done.stdout.startswith("apt "), done


def test_a_container_with_two_vcpus_sees_two(ctr: Ctr) -> None:
    """One of the few several-vCPU tests: the emulated host panics in about 1 of 100 such boots."""
    done = ctr.run(
        "sh", "-c", "grep -c ^processor /proc/cpuinfo", flags=("--annotation", "dev.sampan.vcpus=2")
    )
    assert (done.status, done.stdout) == (0, "2\n"), done


def test_memory_size_by_annotation(ctr: Ctr) -> None:
    done = ctr.run(
        "sh",
        "-c",
        "awk '/MemTotal/{print int($2/1024)}' /proc/meminfo",
        flags=("--annotation", "dev.sampan.memory_mib=384"),
    )
    assert done.status == 0, done
    assert 250 < int(done.stdout) < 384


def test_a_clock_that_is_wrong_is_put_right(ctr: Ctr) -> None:
    """While the container runs, whatever made it wrong; the host's stays as it is."""
    name = ctr.start("sleep", "1000", flags=("--cap-add", "CAP_SYS_TIME"))
    set_back = ctr.shell(name, "date -s @1000000000")
    assert set_back.status == 0, set_back
    deadline = time.monotonic() + TIMEOUT_S
    while abs(int(ctr.shell(name, "date +%s").stdout) - time.time()) > 60:
        assert time.monotonic() < deadline
        time.sleep(1)
