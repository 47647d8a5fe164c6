"""Every fault ends in one clear error and the right status; the next container works."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Configure
from tests.e2e.containerd import Containerd
from tests.e2e.ctr import DEBIAN, TIMEOUT_S, Ctr
from tests.e2e.host import find_pid, find_warm_servers

IMAGE = Path("/var/lib/sampan/image")


def assert_works(ctr: Ctr) -> None:
    done = ctr.run("echo", "fine")
    assert (done.status, done.stdout) == (0, "fine\n"), done


def wait_line(process: "subprocess.Popen[bytes]", line: bytes) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line


@pytest.mark.parametrize(
    ("victim", "statuses"), [("sampan-vmm", {137, 255}), ("sampan-shim", {1, 137, 255})]
)
def test_kill_of_a_host_process_ends_the_container_and_leaves_nothing(
    ctr: Ctr, victim: str, statuses: set[int]
) -> None:
    """Without a shim containerd's Wait fails, and ctr ends with 1, under runc too."""
    name, process = ctr.popen("sh", "-c", "echo up; sleep 1000")
    wait_line(process, b"up\n")
    os.kill(find_pid(victim), signal.SIGKILL)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode in statuses
    ctr.remove(name)
    assert_works(ctr)


def test_kill_of_the_warm_server_ends_no_container(ctr: Ctr) -> None:
    """Nor the start of the next container, which does without it."""
    ctr.run("true")
    deadline = time.monotonic() + TIMEOUT_S
    while not (servers := find_warm_servers()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    name = ctr.start("sleep", "1000")
    (server,) = servers
    os.kill(server, signal.SIGKILL)
    done = ctr.exec(name, "echo", "still here")
    assert (done.status, done.stdout) == (0, "still here\n"), done
    ctr.remove(name)
    assert_works(ctr)


def test_kill_of_the_agent_ends_the_guest_with_255_and_says_why(ctr: Ctr) -> None:
    """PID 1 cannot be killed from a container; a privileged one can crash the guest's kernel."""
    containerd = Containerd()
    start = os.stat(containerd.log).st_size
    name, process = ctr.popen(
        "sh", "-c", "echo up; sleep 1; mount -o remount,rw /proc/sys; echo c > /proc/sysrq-trigger",
        flags=("--privileged",),
    )  # fmt: skip
    wait_line(process, b"up\n")
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 255
    said = containerd.read_log(start)
    assert "the microVM stopped" in said
    assert "sysrq triggered crash" in said, "the end of the guest's console"
    ctr.remove(name)
    assert_works(ctr)


def test_a_missing_kernel_is_named(ctr: Ctr, configure: Configure) -> None:
    configure(kernel="/no/such/vmlinux")
    done = ctr.run("true")
    assert done.status != 0
    assert "/no/such/vmlinux" in done.stderr, done


def test_a_garbage_kernel_is_named(ctr: Ctr, configure: Configure, tmp_path: Path) -> None:
    garbage = tmp_path / "vmlinux"
    garbage.write_bytes(os.urandom(1 << 20))
    configure(kernel=garbage)
    done = ctr.run("true")
    assert done.status != 0
    assert str(garbage) in done.stderr, done


def test_a_kernel_that_never_gets_anywhere_is_reported_with_its_console(
    ctr: Ctr, configure: Configure
) -> None:
    configure(kernel_arguments="init=/no/such/init")
    done = ctr.run("true")
    assert done.status != 0
    assert "/no/such/init" in done.stderr, done


def test_memory_too_small_is_named(ctr: Ctr) -> None:
    done = ctr.run("true", flags=("--annotation", "dev.sampan.memory_mib=16"))
    assert done.status != 0
    assert "memory" in done.stderr.lower(), done
    assert "16" in done.stderr, done


def test_an_unknown_configuration_key_is_named(ctr: Ctr, configure: Configure) -> None:
    configure(memroy_mib=512)
    done = ctr.run("true")
    assert done.status != 0
    assert "memroy_mib" in done.stderr, done


def test_no_dev_kvm_is_named_and_comes_back(ctr: Ctr) -> None:
    os.rename("/dev/kvm", "/dev/kvm.away")
    try:
        done = ctr.run("true")
    finally:
        os.rename("/dev/kvm.away", "/dev/kvm")
    assert done.status != 0
    assert "/dev/kvm" in done.stderr, done
    assert_works(ctr)


def test_something_that_is_no_kvm_is_named(ctr: Ctr) -> None:
    """The device is there, and does not answer KVM's ioctls."""
    os.rename("/dev/kvm", "/dev/kvm.away")
    os.mknod("/dev/kvm", 0o20666, os.makedev(1, 3))
    try:
        done = ctr.run("true")
    finally:
        os.rename("/dev/kvm.away", "/dev/kvm")
    assert done.status != 0
    assert "/dev/kvm" in done.stderr, done


def test_a_full_disk_is_an_error_in_the_container_and_nothing_else(
    ctr: Ctr, tmp_path: Path
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], check=True)
    try:
        done = ctr.run(
            "sh", "-c", "dd if=/dev/zero of=/data/big bs=1M count=8; echo status $?",
            flags=("--mount", f"type=bind,src={tmp_path},dst=/data,options=rbind:rw"),
        )  # fmt: skip
        assert done.status == 0, done
        assert "status 1" in done.stdout
        assert "no space left" in done.stderr.lower(), done
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_state_directory_is_an_error_that_names_it(ctr: Ctr) -> None:
    state = Path("/run/sampan")
    state.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "none", str(state)], check=True
    )
    try:
        done = ctr.run("true")
        assert done.status != 0
        assert "no space left" in done.stderr.lower(), done
        assert "/run/sampan" in done.stderr, done
    finally:
        subprocess.run(["umount", str(state)], check=True)
    assert_works(ctr)


def test_a_broken_image_is_reported(ctr: Ctr, configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    shutil.copyfile(IMAGE / "vmlinux", tmp_path / "vmlinux")
    configure(image_dir=tmp_path)
    done = ctr.run("true")
    assert done.status != 0
    assert done.stderr.strip(), done


def test_a_container_that_eats_all_memory_takes_nothing_with_it(ctr: Ctr) -> None:
    """The guest's OOM killer ends the container, not the agent; its status is 137."""
    script = (
        "import mmap\nkeep = []\n"
        "while True:\n    m = mmap.mmap(-1, 64 << 20)\n    m.write(b'x' * (64 << 20))\n"
        "    keep.append(m)"
    )
    started = time.monotonic()
    done = ctr.run(
        "python3", "-c", script, image=DEBIAN, flags=("--annotation", "dev.sampan.memory_mib=384")
    )
    assert done.status == 137, (done, time.monotonic() - started)
