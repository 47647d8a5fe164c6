"""What a command finds running: kernel modules loaded, containerd up; sampan's configuration.

Both come up while the runner prepares the rest, and are waited for just before the
command starts: on two emulated CPUs that saves seconds.
"""

import socket
import subprocess
import time
from pathlib import Path

MODULES_PIPE = Path("/run/testhost/modules")
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CONFIGURATION = Path("/etc/sampan/config.yaml")
PROCESSOR = "1"
CONTAINERD_LOG = Path("/var/log/containerd.log")
DEADLINE_S = 300
AGENT_TIMEOUT_S = 240
SHOWN_LOG_LINES = 40


class ServiceError(Exception):
    """A service did not come up.  Carries what it said."""


def wait_modules() -> None:
    """PID 1 began to load them; it closes the pipe, empty unless something failed."""
    if complaint := MODULES_PIPE.read_text().strip():
        raise ServiceError(complaint)


def start_containerd(env: dict[str, str]) -> subprocess.Popen[bytes]:
    """`env` has the PATH on which it finds the runtime's shim."""
    with CONTAINERD_LOG.open("ab") as log:
        return subprocess.Popen(
            ["containerd"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_containerd(containerd: subprocess.Popen[bytes]) -> None:
    """Up means that it answers, not that its socket is there."""
    deadline = time.monotonic() + DEADLINE_S
    while not accepts_connections(CONTAINERD_SOCKET):
        if containerd.poll() is not None or time.monotonic() > deadline:
            raise ServiceError(f"containerd is not up (status {containerd.poll()})")
        time.sleep(0.05)
    answered = subprocess.run(["ctr", "version"], capture_output=True, text=True, check=False)
    if answered.returncode != 0:
        raise ServiceError(f"ctr version: {answered.stderr.strip()}")


def accepts_connections(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def pin_vmms() -> None:
    """All threads of a vmm to one of the emulated processors.

    A vCPU that moves between them, or is kicked from the other one, now and then
    ends in a triple fault, and the host with "corrupted stack end detected" or
    silently: 256 MiB from a guest's stdout brought that about in 6 of 6 runs
    (QEMU 10.0.2), in none with its vmm on one processor.
    """
    CONFIGURATION.parent.mkdir(exist_ok=True)
    # Tests that want templates ask for them: nothing may go on beside the others.  A boot
    # takes up to a minute where two emulated hosts share a machine.
    lines = (f"vmm_cpus: [{PROCESSOR}]", "templates: use", f"agent_timeout_s: {AGENT_TIMEOUT_S}")
    CONFIGURATION.write_text("\n".join(lines) + "\n")


def read_log_tail() -> str:
    if not CONTAINERD_LOG.exists():
        return ""
    lines = CONTAINERD_LOG.read_text(errors="replace").splitlines()
    told = [line for line in lines if "loading plugin" not in line and "skip loading" not in line]
    return "\n".join(told[-SHOWN_LOG_LINES:])
