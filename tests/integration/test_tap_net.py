"""The net device's own threads with a tap of the kernel (tests/vm tests vhost-net)."""

from pathlib import Path

import pytest

from tests.native_tap import run_tap_net


@pytest.mark.parametrize("pairs", [1, 2])
def test_packets_pass_between_a_tap_and_the_guest(tmp_path: Path, pairs: int) -> None:
    run_tap_net(tmp_path, "vmm", pairs)
