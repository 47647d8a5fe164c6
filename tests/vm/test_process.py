"""The vmm process and its control socket: refusals, and that nothing outlives the shim."""

import os
from pathlib import Path

import pytest

from tests.vm.conftest import POWER_OFF
from tests.vm.machine import DEADLINE_S, Refused, VmmProcess

SLEEP = "echo ready; $b sleep 1000\n" + POWER_OFF


def refuse(config) -> Refused:
    with VmmProcess() as vmm, pytest.raises(Refused) as caught:
        vmm.boot(config)
    return caught.value


def test_a_missing_kernel_is_named(make_config, tmp_path: Path) -> None:
    path = tmp_path / "no-such-kernel"
    refused = refuse(make_config(kernel_path=str(path)))
    assert refused.category == "HostResource"
    assert str(path) in refused.message


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"\x7fELF" + bytes(4092)])
def test_a_garbage_kernel_is_named(make_config, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(content)
    refused = refuse(make_config(kernel_path=str(path)))
    assert refused.category == "HostResource"
    assert str(path) in refused.message


def test_a_kernel_cut_off_is_told(make_config, kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "truncated"
    path.write_bytes(kernel.read_bytes()[: 16 << 20])
    refused = refuse(make_config(kernel_path=str(path)))
    assert "cut off" in refused.message


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20, 63 << 20])
def test_too_little_memory_is_told_with_the_value(make_config, memory_bytes: int) -> None:
    refused = refuse(make_config(memory_bytes=memory_bytes))
    assert refused.category == "InvalidArgument"
    assert f"memory_bytes is {memory_bytes}" in refused.message


def test_memory_that_the_kernel_does_not_fit_in_is_told(make_config) -> None:
    refused = refuse(make_config(memory_bytes=64 << 20))
    assert refused.category == "InvalidArgument"
    assert f"memory_bytes is {64 << 20}" in refused.message


@pytest.mark.parametrize("vcpus", [0, 100000])
def test_a_number_of_vcpus_out_of_range_is_told(make_config, vcpus: int) -> None:
    refused = refuse(make_config(vcpus=vcpus))
    assert refused.category == "InvalidArgument"
    assert f"vcpus is {vcpus}" in refused.message


def test_a_share_that_is_not_there_is_named(make_config, tmp_path: Path) -> None:
    refused = refuse(make_config(tmp_path / "no-such-directory"))
    assert "no-such-directory" in refused.message


@pytest.mark.parametrize("packet", [b"\xff\xfe", b"[]", b'{"op": "boot"}', b'{"id": 1, "op": 3}'])
def test_a_malformed_packet_is_answered_and_the_vmm_goes_on(packet: bytes) -> None:
    with VmmProcess() as vmm:
        vmm.send_raw(packet)
        answer = vmm.receive_until(lambda message: "error" in message)
        assert answer["error"]["category"] == "InvalidArgument"
        with pytest.raises(Refused, match="no machine is booted"):
            vmm.request("counters")


def test_an_unknown_operation_is_refused_and_its_descriptors_closed() -> None:
    reader, writer = os.pipe()
    with VmmProcess() as vmm:
        with pytest.raises(Refused, match="Unimplemented"):
            vmm.request("dance", fds=[writer])
        os.close(writer)
        assert os.read(reader, 1) == b""
    os.close(reader)


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


def test_a_paused_machine_still_answers_and_resumes(make_config, make_root) -> None:
    with VmmProcess() as vmm:
        vmm.boot(make_config(make_root("echo up\n" + POWER_OFF)))
        vmm.request("pause")
        paused = vmm.request("counters")["exits"]
        assert vmm.request("counters")["exits"] == paused
        vmm.request("resume")
        assert vmm.wait_event("stopped")["reason"] == "poweroff"


def test_a_second_boot_is_refused(make_config, make_root) -> None:
    config = make_config(make_root(SLEEP))
    with VmmProcess() as vmm:
        vmm.boot(config)
        with pytest.raises(Refused, match="already booted"):
            vmm.boot(config)
