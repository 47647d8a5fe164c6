"""The vmm process and its control socket: refusals, and that nothing outlives the shim."""

from pathlib import Path

import pytest

from tests.vm.conftest import POWER_OFF
from tests.vm.machine import DEADLINE_S, Refused, VmmProcess

SLEEP = "echo ready; $b sleep 1000\n" + POWER_OFF


def refuse(config) -> Refused:
    with VmmProcess() as vmm, pytest.raises(Refused) as caught:
        vmm.boot(config)
    return caught.value


@pytest.mark.parametrize("vcpus", [0, 100000])
def test_a_number_of_vcpus_out_of_range_is_reported(make_config, vcpus: int) -> None:
    refused = refuse(make_config(vcpus=vcpus))
    assert refused.category == "InvalidArgument"
    assert f"vcpus is {vcpus}" in refused.message


def test_a_share_that_is_not_there_is_named(make_config, tmp_path: Path) -> None:
    refused = refuse(make_config(tmp_path / "no-such-directory"))
    assert "no-such-directory" in refused.message


def test_stop_ends_the_machine_and_then_the_process(make_config, make_root) -> None:
    with VmmProcess() as vmm:
        vmm.boot(make_config(make_root(SLEEP)))
        assert vmm.request("stop") == {}
        assert vmm.wait_event("stopped")["reason"] == "requested"
        assert vmm.process.wait(DEADLINE_S) == 0


def test_the_vmm_does_not_outlive_its_shim(make_config, make_root) -> None:
    with VmmProcess() as vmm:
        vmm.boot(make_config(make_root(SLEEP)))
        vmm.socket.close()
        assert vmm.process.wait(DEADLINE_S) == 0


def test_a_second_boot_is_refused(make_config, make_root) -> None:
    config = make_config(make_root(SLEEP))
    with VmmProcess() as vmm:
        vmm.boot(config)
        with pytest.raises(Refused, match="already booted"):
            vmm.boot(config)
