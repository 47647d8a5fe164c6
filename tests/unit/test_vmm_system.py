"""A host without a KVM for Linux guests is refused in one sentence that names the device."""

import errno
import os
from pathlib import Path

import pytest

from shim.errors import HostResource
from shim.vmm.kvm import system
from shim.vmm.kvm.system import KvmSystem


def refuse(monkeypatch: pytest.MonkeyPatch, device: str) -> str:
    monkeypatch.setattr(system, "DEVICE", device)
    with pytest.raises(HostResource) as caught:
        KvmSystem()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(device)
    return message


def test_a_missing_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    message = refuse(monkeypatch, str(tmp_path / "kvm"))
    assert "no KVM, or its module is not loaded" in message


def test_a_device_that_is_not_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leak check of every test sees that it is closed again."""
    refuse(monkeypatch, os.devnull)


def test_no_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def open_refused(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr("shim.vmm.kvm.system.os.open", open_refused)
    assert refuse(monkeypatch, str(tmp_path)).endswith("permission denied")


@pytest.mark.parametrize(
    ("capabilities", "module", "reason"),
    [
        ({"KVM_CAP_IRQFD": 0}, "/nowhere", "lacks KVM_CAP_IRQFD"),
        ({}, "/proc/self", "paravirtual"),
    ],
)
def test_a_kvm_that_runs_no_linux(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, int], module: str, reason: str
) -> None:
    from native.ffi import lib

    answers = {getattr(lib, name): value for name, value in capabilities.items()}

    def answer(fd: int, name: str, argument: int = 0) -> int:
        version = name == "KVM_GET_API_VERSION"
        return system.KVM_API_VERSION if version else answers.get(argument, 1)

    monkeypatch.setattr(system, "kvm_ioctl", answer)
    monkeypatch.setattr(system, "PVM_MODULE", module)
    assert reason in refuse(monkeypatch, os.devnull)
