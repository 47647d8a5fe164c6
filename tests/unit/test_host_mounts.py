"""From mount options to mount(2): flags, data, and options longer than a page."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from shim.host.mounts import MAX_DATA_BYTES, HostMount, parse_options, shorten_paths

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8


def test_flags_and_data_are_distinguished() -> None:
    flags, data = parse_options(("ro", "nosuid", "lowerdir=/a:/b", "index=off"))
    assert (flags, data) == (MS_RDONLY | MS_NOSUID, "lowerdir=/a:/b,index=off")


def test_a_later_option_takes_an_earlier_one_back() -> None:
    assert parse_options(("ro", "rw", "nodev", "noexec", "dev"))[0] == MS_NOEXEC


def test_propagation_is_no_option_of_a_file_system() -> None:
    assert parse_options(("rprivate", "rslave", "shared")) == (0, "")


@pytest.mark.parametrize(
    ("kind", "options", "bind"),
    [("bind", (), True), ("none", ("rbind",), True), ("", ("bind",), True), ("ext4", (), False)],
)
def test_what_a_bind_is(kind: str, options: tuple[str, ...], bind: bool) -> None:
    assert HostMount(kind, "/s", options=options).is_bind is bind


def test_long_overlay_options_fit_into_a_page_and_mean_the_same(tmp_path: Path) -> None:
    layers = [tmp_path / f"{'layer' * 20}{number}" for number in range(100)]
    for layer in layers:
        layer.mkdir()
    (tmp_path / "upper").mkdir()
    data = f"lowerdir={':'.join(map(str, layers))},upperdir={tmp_path}/upper,index=off"
    assert len(data) > MAX_DATA_BYTES
    with ExitStack() as opened:
        short = shorten_paths(data, opened)
        assert len(short) <= MAX_DATA_BYTES
        lower, upper, index = short.split(",")
        paths = lower.removeprefix("lowerdir=").split(":")
        assert [os.path.realpath(path) for path in paths] == [str(layer) for layer in layers]
        assert os.path.realpath(upper.removeprefix("upperdir=")) == str(tmp_path / "upper")
        assert index == "index=off"
