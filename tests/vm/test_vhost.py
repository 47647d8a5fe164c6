"""vhost-net behind the net device, seen from the guest's driver and from the tap."""

import os
from pathlib import Path

import pytest

from shim.host.fds import close_all
from shim.host.vhost import VHOST_NET, open_vhost_net
from tests.native_tap import run_tap_net


@pytest.mark.parametrize("pairs", [1, 2])
def test_packets_pass_by_the_host_s_kernel_between_a_tap_and_the_guest(
    tmp_path: Path, pairs: int
) -> None:
    opened = open_vhost_net(1)
    close_all(opened)
    if not opened:
        say = pytest.fail if os.environ.get("REQUIRE_VM") == "1" else pytest.skip
        say(f"no {VHOST_NET}")
    run_tap_net(tmp_path, "vhost", pairs)
