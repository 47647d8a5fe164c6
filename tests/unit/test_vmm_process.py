"""The vmm process without KVM: bad input is refused with a clear message."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from proto.control import CONTROL_FD, MachineConfig
from tests.unit.test_vmm_kernel import make_elf, make_segment
from tests.vm.machine import DEADLINE_S, Refused, VmmProcess

MIB = 1 << 20
MakeConfig = Callable[..., MachineConfig]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """A kernel whose segment lies at 16 MiB, and half of a machine around it."""
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(make_elf(make_segment(offset=0)))

    def make(**changes: object) -> MachineConfig:
        values: dict[str, object] = {
            "vcpus": 1,
            "memory_bytes": 256 * MIB,
            "kernel_path": str(kernel),
            "console_path": str(tmp_path / "console"),
            "shares": (),
        }
        return MachineConfig(**{**values, **changes})  # type: ignore[arg-type]

    return make


def refuse(config: MachineConfig) -> Refused:
    with VmmProcess() as vmm, pytest.raises(Refused) as caught:
        vmm.boot(config)
    return caught.value


def test_a_missing_kernel_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "no-such-kernel"
    refused = refuse(make_config(kernel_path=str(path)))
    assert refused.category == "HostResource"
    assert refused.message == f"kernel {path}: No such file or directory"


def test_a_directory_is_no_kernel(make_config: MakeConfig, tmp_path: Path) -> None:
    refused = refuse(make_config(kernel_path=str(tmp_path)))
    assert refused.message == f"kernel {tmp_path}: Is a directory"


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"\x7fELF" + bytes(4092)])
def test_a_garbage_kernel_is_named(make_config: MakeConfig, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(content)
    refused = refuse(make_config(kernel_path=str(path)))
    assert refused.category == "HostResource"
    assert f"kernel {path}: " in refused.message


def test_a_kernel_cut_off_is_reported(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "truncated"
    path.write_bytes(make_elf(make_segment()))
    assert "cut off: segment 0" in refuse(make_config(kernel_path=str(path))).message


@pytest.mark.parametrize("memory_bytes", [-1, 0, 1 << 20, (64 << 20) - 1, 1 << 60])
def test_too_little_memory_is_reported_with_the_value(
    make_config: MakeConfig, memory_bytes: int
) -> None:
    refused = refuse(make_config(memory_bytes=memory_bytes))
    assert refused.category == "InvalidArgument"
    assert f"memory_bytes is {memory_bytes}" in refused.message


def test_memory_that_the_kernel_does_not_fit_in_is_reported(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    segment = make_segment(offset=0)
    segment[6] = 64 * MIB
    path.write_bytes(make_elf(segment))
    refused = refuse(make_config(kernel_path=str(path), memory_bytes=64 * MIB))
    assert refused.category == "InvalidArgument"
    assert f"memory_bytes is {64 * MIB}" in refused.message
    assert str(path) in refused.message


def test_arguments_of_the_wrong_form_are_refused(make_config: MakeConfig) -> None:
    with VmmProcess() as vmm:
        for arguments in ({}, {**make_config().to_json(), "color": "red"}):
            with pytest.raises(Refused, match="InvalidArgument: control: boot"):
                vmm.request("boot", arguments)


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


def test_listeners_of_a_refused_boot_are_closed(make_config: MakeConfig) -> None:
    reader, writer = os.pipe()
    with VmmProcess() as vmm:
        with pytest.raises(Refused):
            vmm.boot(make_config(memory_bytes=0, ports=(1024,)), [writer])
        os.close(writer)
        assert os.read(reader, 1) == b""
    os.close(reader)


def test_a_prewarmed_machine_is_a_clone_or_none(make_config: MakeConfig, tmp_path: Path) -> None:
    """A prewarmed machine never boots instead: no container waits for it yet."""
    with VmmProcess() as vmm:
        with pytest.raises(Refused, match=f"{tmp_path}/none/state.json: No such file"):
            vmm.request("prewarm", make_config(template=f"{tmp_path}/none").to_json())
        with pytest.raises(Refused, match="no machine is booted"):
            vmm.request("start")


def test_the_process_ends_when_the_shims_end_closes() -> None:
    with VmmProcess() as vmm:
        with pytest.raises(Refused):
            vmm.request("counters")
        assert Path(f"/proc/{vmm.process.pid}/comm").read_text() == "sampan-vmm\n"
        vmm.socket.close()
        assert vmm.process.wait(DEADLINE_S) == 0


def test_a_process_without_control_socket_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    from tests.vm.machine import start_process

    with open(os.devnull) as null:
        process = start_process(null.fileno())
    assert process.wait(DEADLINE_S) == 1
    assert f"fd {CONTROL_FD} is no socket" in capfd.readouterr().err
