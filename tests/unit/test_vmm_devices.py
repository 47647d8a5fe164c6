"""The configuration that devices show the guest, and its command line."""

import errno
import os
import struct
from pathlib import Path

import pytest

from native.ffi import ffi, lib
from proto.contract import GUEST_INIT, STREAM_TOKEN_BYTES
from proto.control import (
    MAX_NIC_PAIRS,
    MAX_PACKET_FDS,
    MachineConfig,
    Share,
    SharePolicy,
    count_pairs,
)
from shim.errors import HostResource, InvalidArgument
from shim.vmm.address_map import PCI_WINDOW_GPA
from shim.vmm.boot.linux import MAX_COMMAND_LINE_BYTES
from shim.vmm.builder import build_command_line
from shim.vmm.devices import fs, net, pci, vsock


def make_config(*shares: Share, arguments: str = "") -> MachineConfig:
    return MachineConfig(1, 1 << 28, "/vmlinux", "/console", shares, (), arguments)


def make_share(policy: SharePolicy, tag: str = "tag", path: str = "/") -> Share:
    return Share(tag, path, policy)


def test_the_root_is_the_image_share_and_init_is_ours() -> None:
    line = build_command_line(
        make_config(make_share(SharePolicy.SHARED, "v"), make_share(SharePolicy.IMAGE, "image"))
    )
    assert f"root=image rootfstype=virtiofs ro init={GUEST_INIT}" in line


def test_the_configurations_arguments_have_the_last_word() -> None:
    line = build_command_line(make_config(make_share(SharePolicy.IMAGE), arguments="panic=5 --"))
    assert line.endswith(" panic=5 --")
    assert line.index("panic=-1") < line.index("panic=5")


def test_the_command_line_leaves_room_for_a_users() -> None:
    longest = make_share(SharePolicy.IMAGE, "x" * fs.TAG_BYTES)
    assert len(build_command_line(make_config(longest))) < MAX_COMMAND_LINE_BYTES // 2


def test_the_tag_is_padded_and_followed_by_the_number_of_queues() -> None:
    """virtio 1.2 §5.11.4."""
    description = fs.describe_fs(make_share(SharePolicy.IMAGE, "sampan-image"))
    tag, queues = struct.unpack("<36sI", description.config)
    assert tag == b"sampan-image".ljust(36, b"\0")
    assert len(description.queue_sizes) == 1 + queues


@pytest.mark.parametrize("tag", ["", "x" * 37, "ä" * 19])
def test_a_tag_that_does_not_fit_is_refused(tag: str) -> None:
    with pytest.raises(InvalidArgument, match="share tag"):
        fs.describe_fs(make_share(SharePolicy.IMAGE, tag))


@pytest.mark.parametrize("policy", SharePolicy)
def test_only_what_the_guest_has_alone_is_kept_for_long(policy: SharePolicy) -> None:
    config = fs.configure(policy, 0)
    alone = policy is not SharePolicy.SHARED
    assert config.exclusive == alone
    assert config.entry_valid_ns == config.attr_valid_ns
    assert (config.attr_valid_ns == fs.LONG_VALIDITY_NS) == alone
    assert alone or config.attr_valid_ns <= 1_000_000  # one tick: it is rounded up
    assert (config.keep_after_ns == 0) == alone
    assert config.read_only == (policy is SharePolicy.IMAGE)
    assert not config.own_mount_writable
    assert config.privileged_attributes == (policy is SharePolicy.EXCLUSIVE)


def test_a_share_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "gone"
    with pytest.raises(HostResource, match=f"share volumes: {missing}: No such file"):
        fs.open_fs_model(make_share(SharePolicy.SHARED, "volumes", str(missing)))


def test_a_share_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostResource, match="Not a directory"):
        fs.open_fs_model(make_share(SharePolicy.SHARED, path=str(tmp_path / "file")))


def test_a_device_of_a_share_holds_its_directory_and_lets_go_of_it(tmp_path: Path) -> None:
    """The leak check of every test sees the descriptors."""
    model = fs.open_fs_model(make_share(SharePolicy.EXCLUSIVE, path=str(tmp_path)))
    lib.virtio_device_destroy(model)


@pytest.mark.parametrize(
    "description", [vsock.DESCRIPTION, fs.describe_fs(Share("t", "/", SharePolicy.IMAGE))]
)
def test_a_description_reaches_the_table_whole(description: pci.DeviceDescription) -> None:
    described = pci.describe(description, PCI_WINDOW_GPA)
    count = described.queue_count
    assert tuple(described.queue_sizes[0:count]) == description.queue_sizes
    assert bytes(described.config[0 : described.config_bytes]) == description.config
    assert all(size & (size - 1) == 0 for size in description.queue_sizes)
    assert described.bar_gpa % lib.PCI_BAR_BYTES == 0


def test_a_token_is_sixteen_bytes_in_hexadecimal() -> None:
    token = os.urandom(STREAM_TOKEN_BYTES)
    assert vsock.decode_token(token.hex()) == token


@pytest.mark.parametrize("text", ["", "zz" * 16, "00" * 15, "00" * 17])
def test_another_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="token"):
        vsock.decode_token(text)


def test_a_nics_address_is_six_bytes_of_one_interface() -> None:
    assert net.parse_mac("02:00:00:12:34:ff") == bytes.fromhex("0200001234ff")


@pytest.mark.parametrize("text", ["", "02:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "xx"])
def test_what_is_no_address_of_an_interface_is_named(text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"mac '{text}'"):
        net.parse_mac(text)


@pytest.mark.parametrize(("pairs", "queues"), [(1, 2), (2, 5), (MAX_NIC_PAIRS, 17)])
def test_a_nic_offers_what_the_device_can_and_nothing_of_the_transports(
    pairs: int, queues: int
) -> None:
    assert net.lib.net_device_queues(pairs) == queues
    features = net.lib.net_device_features(pairs)
    several = 1 << 17 | 1 << 22  # VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ
    assert features & several == (several if pairs > 1 else 0)
    assert features & 1 << 5  # VIRTIO_NET_F_MAC
    assert features & 1 << 16  # VIRTIO_NET_F_STATUS
    assert features >> 24 == 0


def test_a_nic_has_a_pair_of_queues_for_each_vcpu_up_to_what_a_packet_carries() -> None:
    assert [count_pairs(vcpus) for vcpus in (1, 2, 8, 9, 254)] == [1, 2, 8, 8, 8]
    assert 2 * MAX_NIC_PAIRS <= MAX_PACKET_FDS  # of the tap, and of vhost-net
    device = ffi.new("struct net_device **")
    assert net.lib.net_device_new(MAX_NIC_PAIRS + 1, device) == -errno.EINVAL
    assert net.lib.net_device_new(MAX_NIC_PAIRS, device) == 0
    lib.virtio_device_destroy(net.lib.net_device_virtio(device[0]))
