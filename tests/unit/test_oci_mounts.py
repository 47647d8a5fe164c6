"""Mounts: what becomes a volume, what the guest makes itself, what is refused."""

from typing import Any

import pytest

from shim.errors import InvalidArgument
from shim.oci.mounts import Volume, translate_mounts


def bind(destination: str, source: str, *options: str) -> dict[str, Any]:
    chosen = list(options) or ["rbind"]
    return {"destination": destination, "type": "bind", "source": source, "options": chosen}


def test_a_bind_becomes_a_numbered_volume() -> None:
    mounts = [bind("/data", "/srv/data", "rbind", "ro"), bind("/etc/hosts", "/x/hosts", "bind")]
    translated, volumes = translate_mounts(mounts, "c1", "/bundle")
    assert volumes == (
        Volume(0, "/srv/data", read_only=True, recursive=True, field="mounts[0].source"),
        Volume(1, "/x/hosts", read_only=False, recursive=False, field="mounts[1].source"),
    )
    assert [m["source"] for m in translated] == [
        "/run/sampan/volumes/c1/0",
        "/run/sampan/volumes/c1/1",
    ]
    assert translated[0]["options"] == ["rbind", "ro"]


def test_an_exclusive_volume_is_below_the_share_of_the_roots() -> None:
    mounts = [bind("/data", "/srv/data"), bind("/db/", "/srv/db"), bind("/x", "/x")]
    translated, volumes = translate_mounts(mounts, "c1", "/bundle", " /db, /x/,")
    assert [volume.exclusive for volume in volumes] == [False, True, True]
    assert [m["source"] for m in translated] == [
        "/run/sampan/volumes/c1/0",
        "/run/sampan/rootfs/c1@1",
        "/run/sampan/rootfs/c1@2",
    ]
    assert volumes[1].name("c1") == "c1@1"


def test_an_exclusive_volume_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"exclusive_volumes\]: .*'/gone'"):
        translate_mounts([bind("/data", "/srv")], "c1", "/bundle", "/data,/gone")


def test_a_bind_option_makes_a_bind_whatever_the_type() -> None:
    mount = {"destination": "/d", "type": "none", "source": "/s", "options": ["bind"]}
    _, volumes = translate_mounts([mount], "c1", "/bundle")
    assert [v.source for v in volumes] == ["/s"]


def test_a_relative_source_is_below_the_bundle() -> None:
    _, volumes = translate_mounts([bind("/d", "files/../x")], "c1", "/bundle")
    assert volumes[0].source == "/bundle/x"


@pytest.mark.parametrize("kind", ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup"])
def test_file_systems_of_a_kernel_pass_as_they_are(kind: str) -> None:
    mount = {"destination": "/x", "type": kind, "source": kind, "options": ["nosuid"]}
    assert translate_mounts([mount], "c1", "/b") == ([mount], ())


def test_cris_shared_memory_becomes_the_guests_own() -> None:
    mounts = [bind("/dev/shm", "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/s/shm")]
    translated, volumes = translate_mounts(mounts, "c1", "/b")
    assert volumes == ()
    assert translated[0]["type"] == "tmpfs"
    assert "mode=1777" in translated[0]["options"]


@pytest.mark.parametrize("source", ["/dev/null", "/sys/fs/cgroup", "/proc/sys", "/dev"])
def test_a_bind_of_a_kernels_object_means_the_guests(source: str) -> None:
    translated, volumes = translate_mounts([bind("/x", source)], "c1", "/b")
    assert volumes == ()
    assert translated[0]["source"] == source


def test_a_path_that_only_begins_like_dev_is_a_volume() -> None:
    _, volumes = translate_mounts([bind("/x", "/devices")], "c1", "/b")
    assert len(volumes) == 1


@pytest.mark.parametrize("kind", ["ext4", "overlay", "nfs", None])
def test_a_file_system_of_the_host_is_refused_by_name(kind: str | None) -> None:
    mount = {"destination": "/x", "type": kind, "source": "/dev/sda1"}
    with pytest.raises(InvalidArgument, match=r"mounts\[0\].type: .*'/dev/sda1'"):
        translate_mounts([mount], "c1", "/b")


def test_a_bind_without_a_source_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"mounts\[0\].source"):
        translate_mounts([bind("/x", "")], "c1", "/b")
