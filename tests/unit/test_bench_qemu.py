"""The other monitor: its command line, and the report of both."""

from pathlib import Path

from benchmarks.qemu import Sample, describe, make_command, render
from shim.config import Config
from shim.machine.directory import SandboxDirectory


def test_it_has_the_same_kernel_and_image_on_the_same_processors() -> None:
    config = Config(image_dir="/image")
    machine = describe(config, SandboxDirectory("/s"))
    command = make_command(machine, {"sampan-image": Path("/s/image.sock")}, (1, 3))
    assert command[:3] == ["taskset", "-c", "1,3"]
    assert command[command.index("-kernel") + 1] == config.kernel_path
    assert "root=sampan-image rootfstype=virtiofs" in command[command.index("-append") + 1]
    assert "vhost-user-fs-pci,chardev=fs0,tag=sampan-image" in command


def test_a_figure_is_the_median_with_its_spread() -> None:
    samples = [
        Sample(seconds, {"virtiofsd": 6.0, "qemu": size}, wakeups)
        for seconds, size, wakeups in ((2.0, 100.0, 9.0), (1.0, 90.0, 8.0), (4.0, 110.0, 7.0))
    ]
    text = render({"QEMU microvm": samples}, "emulated")
    assert "s (emulated)" in text
    row = text.splitlines()[-1]
    assert "2.00 (1.00 to 4.00)" in row
    assert "| 106.0 | qemu 110.0, virtiofsd 6.0 | 8.0 |" in row
