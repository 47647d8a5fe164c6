"""The trial container, which runs while a template is made.

The machine that is saved runs it so that clones have programs read and code warm;
a first clone runs it to find which pages clones touch.  Its program ends at once:
what matters is the start through kernel, agent and crun, the same in every clone.
"""

import json
import os
from typing import Any, Final

from proto.contract import GUEST_TRIAL_DIR, GUEST_TRIAL_PROGRAM
from proto.control import Direction
from shim.errors import GuestFault
from shim.guest.values import ProcessName, StdioTokens
from shim.machine.machine import SandboxMachine
from shim.machine.streams import make_token
from shim.oci.guest import HostContext, translate_spec

NAME: Final = "trial"
NAMESPACES: Final = ("pid", "mount", "ipc", "uts", "cgroup", "network")
CAPABILITIES: Final = ("CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETUID")
DEVICES: Final = ((1, 3), (1, 5), (1, 9), (5, 0), (5, 2))
"""Major and minor numbers: null, zero, urandom, tty, ptmx."""


async def run_trial(machine: SandboxMachine) -> None:
    """GuestFault when the container does not end with 0."""
    agent = await machine.wait_agent()
    process = ProcessName(NAME)
    token = make_token()
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
    if status != 0:
        raise GuestFault(f"the trial container ended with status {status}")


async def try_clone(machine: SandboxMachine) -> None:
    """GuestFault when the machine had to boot."""
    await machine.wait_agent()
    if not machine.is_clone:
        raise GuestFault("the machine booted instead of being restored")
    await run_trial(machine)


def describe_container() -> dict[str, Any]:
    """In the guest's terms; with some of everything that containerd's own specs have, so
    that the code of the kernel and of crun for it is warm."""
    mounts = [
        ("/proc", "proc", ["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/run", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "args": [GUEST_TRIAL_PROGRAM],
            "cwd": "/",
            "env": ["PATH=/"],
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        },
        "root": {"path": NAME, "readonly": True},
        "mounts": [
            {"destination": place, "type": kind, "source": kind, "options": options}
            for place, kind, options in mounts
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "resources": {"devices": describe_devices(), "pids": {"limit": 64}},
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    }
    document = translate_spec(spec, NAME, HostContext(bundle="/", terminal=False)).document
    document["root"]["path"] = GUEST_TRIAL_DIR
    return document


def describe_devices() -> list[dict[str, Any]]:
    allowed = [
        {"allow": True, "access": "rwm", "type": "c", "major": major, "minor": minor}
        for major, minor in DEVICES
    ]
    return [{"allow": False, "access": "rwm"}, *allowed]
