"""A "kernel" whose third instruction resets the machine, as large as a kernel.

Boot protocol: 64-bit entry (Linux Documentation/arch/x86/boot.rst).
"""

import subprocess
from pathlib import Path
from typing import Final

KERNEL_BYTES: Final = 21 << 20
ENTRY: Final = 0x1000000
SOURCE: Final = f"""\
	.section .note.GNU-stack,"",@progbits
	.text
	.code64
	.globl _start
_start:
	mov $0x64, %edx
	mov $0xfe, %al
	out %al, %dx
	hlt
	.skip {KERNEL_BYTES}, 0x90
"""


def make_image(directory: Path) -> Path:
    """What sampan takes for a guest image: vmlinux, and a root that nobody reads."""
    (directory / "root").mkdir(parents=True)
    source = directory / "stub.S"
    source.write_text(SOURCE)
    command = ["gcc", "-nostdlib", "-static", f"-Wl,-Ttext={ENTRY:#x}", "-Wl,--build-id=none"]
    subprocess.run([*command, "-o", str(directory / "vmlinux"), str(source)], check=True)
    return directory
