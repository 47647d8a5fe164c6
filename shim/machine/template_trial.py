"""A first clone of a new template runs a container, to find which pages clones touch.

The container's program is one that ends at once: the clone's way there, through
kernel, agent and crun, is what every clone has before it.
"""

import json
import os
import struct
from typing import Any, Final

from proto.control import Direction
from shim.errors import GuestFault
from shim.guest.client import ProcessName, StdioTokens
from shim.machine.machine import Machine, make_token
from shim.machine.sandbox import Sandbox
from shim.oci.guest import Surroundings, translate_spec

NAME: Final = "trial"
ROOT_DIRECTORIES: Final = ("dev", "proc", "sys")
NAMESPACES: Final = ("pid", "mount", "ipc", "uts", "cgroup", "network")
LOAD_ADDRESS: Final = 0x400000
CODE: Final = bytes.fromhex("31ff b83c000000 0f05")
"""xor %edi, %edi; mov $60, %eax; syscall: exit(0)."""


async def try_clone(machine: Machine, sandbox: Sandbox) -> None:
    """GuestFault when the machine had to boot, or the container does not end with 0."""
    agent = await machine.wait_agent()
    if not machine.is_clone:
        raise GuestFault("it does not go on from the template")
    process = ProcessName(NAME)
    token = make_token()
    root = make_root(sandbox)
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        stream = machine.open_stream(null, Direction.FROM_GUEST, token)
        tokens = StdioTokens(terminal=False, stdout=token)
        spec = json.dumps(describe_container()).encode()
        await machine.until_end(agent.create_container(NAME, spec, tokens))
        await machine.until_end(agent.start_process(process))
        status = await machine.until_end(agent.wait_process(process))
        await machine.until_end(stream.closed)
        await machine.until_end(agent.delete_process(process))
    finally:
        os.close(null)
        remove_root(root)
    if status != 0:
        raise GuestFault(f"the trial container ended with status {status}")


def make_root(sandbox: Sandbox) -> str:
    root = f"{sandbox.rootfs_dir}/{NAME}"
    for name in ("", *ROOT_DIRECTORIES):
        os.mkdir(f"{root}/{name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(f"{root}/{NAME}", flags, 0o700), "wb") as program:
        program.write(make_program())
    return root


def remove_root(root: str) -> None:
    os.unlink(f"{root}/{NAME}")
    for name in (*ROOT_DIRECTORIES, ""):
        os.rmdir(f"{root}/{name}")


def make_program() -> bytes:
    """A static executable.  ELF-64 object file format 1.5, chapters 3 and 6."""
    header_bytes, segment_bytes = 64, 56
    entry = LOAD_ADDRESS + header_bytes + segment_bytes
    ident = b"\x7fELF" + bytes([2, 1, 1, 0])
    header = struct.pack(
        "<8s8xHHIQQQIHHHHHH",
        *(ident, 2, 62, 1, entry, header_bytes, 0, 0, header_bytes, segment_bytes, 1, 0, 0, 0),
    )
    whole = header_bytes + segment_bytes + len(CODE)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, LOAD_ADDRESS, LOAD_ADDRESS, whole, whole, 4096)
    return header + segment + CODE


def describe_container() -> dict[str, Any]:
    """In the guest's terms; mounts as containerd's own specs have them."""
    mounts = [
        ("/proc", "proc", ["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]
    spec = {
        "ociVersion": "1.0.2",
        "process": {"args": [f"/{NAME}"], "cwd": "/", "env": ["PATH=/"], "noNewPrivileges": True},
        "root": {"path": NAME},
        "mounts": [
            {"destination": place, "type": kind, "source": kind, "options": options}
            for place, kind, options in mounts
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    }
    return translate_spec(spec, NAME, Surroundings(bundle="/", terminal=False)).document
