"""What a hostile guest does to its shares changes nothing on the host but what they are for.

The guests here are containers with every right inside their machine: they mount the shares
themselves, as a guest kernel that was taken over would.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.host.capabilities import KEPT
from tests.e2e.ctr import BUSYBOX, TIMEOUT_S, Ctr
from tests.e2e.host import find_pid

GROUP = "io.containerd.runc.v2.group"
RUN = Path("/run/sampan")
ATTACK = """
set -u
mkdir -p /m
mount -t virtiofs {tag} /m || echo "cannot mount"
cd /m
refused() {{
    "$@" 2>/tmp/why && echo "done: $*"
    grep -q "Read-only file system" /tmp/why || cat /tmp/why
}}
refused ln -s {victim} /m/evil
refused mkdir /m/evil
refused mknod /m/evil p
refused touch /m/evil
refused dd if=/dev/zero of=/m/large bs=1M count=8
refused chmod 777 /m
refused touch -d 2001-01-01 /m
for entry in *; do
    test "$entry" = "*" && continue
    refused mv "$entry" moved
    refused rmdir "$entry"
    if test -d "$entry" && test "{tag}" = sampan-volumes; then
        refused ln -s {victim} "$entry/evil"
        for place in "$entry"/*; do refused mv "$place" "$entry/moved"; refused rmdir "$place"; done
    fi
done
echo attacked
"""


@pytest.fixture
def victim() -> Iterator[Path]:
    """Of root's: empty entries would be taken for mount points that are left over."""
    made = Path("/root/victim")
    (made / "directory").mkdir(parents=True)
    (made / "empty").touch()
    (made / "full").write_text("precious")
    yield made
    left = sorted(path.name for path in made.iterdir())
    subprocess.run(["rm", "-r", str(made)], check=True)
    assert left == ["directory", "empty", "full"]


@pytest.mark.parametrize("tag", ["sampan-rootfs", "sampan-volumes"])
def test_the_root_of_a_share_cannot_be_changed_by_a_guest(
    ctr: Ctr, victim: Path, tmp_path: Path, tag: str
) -> None:
    """With a link there, root on the host would have removed what it leads to."""
    volume = ("--mount", f"type=bind,src={tmp_path},dst=/data,options=rbind:rw")
    script = ATTACK.format(tag=tag, victim=victim)
    done = ctr.run("sh", "-c", script, flags=("--privileged", *volume))
    assert (done.status, done.stdout) == (0, "attacked\n"), done


@pytest.mark.parametrize("tag", ["sampan-rootfs", "sampan-volumes"])
def test_nor_while_another_container_of_the_same_guest_comes_and_goes(
    ctr: Ctr, victim: Path, tmp_path: Path, tag: str
) -> None:
    """The first one tries to be quicker than the host between a place and its mount."""
    script = ATTACK.format(tag=tag, victim=victim) + (
        "while :; do for name in *; do mv $name old; ln -s /root/victim $name;"
        " mkdir $name; rmdir $name; done; done 2>/dev/null"
    )
    first = ctr.new_id()
    group = ("--annotation", f"{GROUP}={first}")
    command = ctr.run_arguments(BUSYBOX, first, ("--detach", "--privileged", *group))
    assert ctr.command(*command, "sh", "-c", script).status == 0
    volume = ("--mount", f"type=bind,src={tmp_path},dst=/data,options=rbind:rw")
    try:
        for number in range(3):
            done = ctr.run(
                "sh", "-c", f"echo {number} > /data/note; cat /data/note", flags=(*group, *volume)
            )
            assert (done.status, done.stdout) == (0, f"{number}\n"), done
            assert (tmp_path / "note").read_text() == f"{number}\n"
    finally:
        ctr.remove(first)


OWN_ROOT = """
ln -s /root/victim /evil
ln /bin/busybox /hard
dd if=/dev/zero of=/large bs=1M count=8 2>/dev/null
mkdir /dir
(while :; do mv /dir /moved; ln -s /root/victim /dir; rm /dir; mv /moved /dir; done) &
echo up
sleep 1000
"""


@pytest.mark.parametrize("killed", ["", "sampan-shim", "sampan-vmm"])
def test_what_a_guest_did_in_its_own_root_ends_with_it_whoever_is_killed(
    ctr: Ctr, victim: Path, killed: str
) -> None:
    """containerd has `delete` clear up after a shim that was killed."""
    name, process = ctr.popen("sh", "-c", OWN_ROOT, flags=("--privileged",))
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    if killed:
        os.kill(find_pid(killed), signal.SIGKILL)
    else:
        ctr.kill(name)
    process.communicate(timeout=TIMEOUT_S)
    ctr.remove(name)
    assert [path for path in RUN.iterdir() if path.name != "warm"] == []


def test_a_running_shim_has_few_capabilities(ctr: Ctr) -> None:
    name = ctr.start("sleep", "1000")
    expected = sum(1 << number for number in KEPT.values())
    for task in Path(f"/proc/{find_pid('sampan-shim')}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        (effective,) = (int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))
        assert effective == expected, task
    ctr.remove(name)
