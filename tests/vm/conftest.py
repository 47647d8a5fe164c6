"""A kernel, and a root file system whose init is a busybox script."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from proto.contract import GUEST_INIT, IMAGE_TAG
from proto.control import MachineConfig, Share, SharePolicy

IMAGE = Path(os.environ.get("SAMPAN_IMAGE", "/var/lib/sampan/image"))
MIB = 1 << 20

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec >/dev/console 2>&1 </dev/console
$b mount -t proc proc /proc
"""
POWER_OFF = "$b poweroff -f\n"

MakeConfig = Callable[..., MachineConfig]


@pytest.fixture(scope="session")
def kernel() -> Path:
    path = Path(os.environ.get("SAMPAN_KERNEL", IMAGE / "vmlinux"))
    if not path.exists():
        pytest.skip(f"no kernel: {path} (sampan image build)")
    return path


@pytest.fixture
def make_root(tmp_path: Path) -> Callable[[str], Path]:
    """A root whose init runs a few lines of shell."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs a static busybox")

    def make(script: str) -> Path:
        root = tmp_path / "root"
        for name in ("bin", "sbin", "dev", "proc", "sys", "run"):
            (root / name).mkdir(parents=True)
        shutil.copy(busybox, root / "bin/busybox")
        init = root / GUEST_INIT.lstrip("/")
        init.write_text(INIT + script)
        init.chmod(0o755)
        return root

    return make


@pytest.fixture
def make_config(kernel: Path, tmp_path: Path) -> MakeConfig:
    def make(root: Path | None = None, **changes: object) -> MachineConfig:
        shares = () if root is None else (Share(IMAGE_TAG, str(root), SharePolicy.IMAGE),)
        values: dict[str, object] = {
            "vcpus": 1,
            "memory_bytes": 256 * MIB,
            "kernel_path": str(kernel),
            "console_path": str(tmp_path / "console"),
            "shares": shares,
        }
        return MachineConfig(**{**values, **changes})  # type: ignore[arg-type]

    return make
