"""Probes for what the rungs of the test ladder need.

Each tries the operation and answers why it cannot be done, or "" when it can.
"""

import fcntl
import os
import subprocess
from pathlib import Path

KVM_CREATE_VM = 0xAE01  # linux/kvm.h: _IO(KVMIO, 0x01)
CLONE_NEWNET = 0x40000000  # linux/sched.h
RUNTIME = "containerd-shim-sampan-v2"


def probe_integration() -> str:
    """Root that can make a network namespace, as the tests of this rung do."""
    if os.geteuid() != 0:
        return "needs root"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, check=False
    )
    if tried.returncode != 0:
        return f"no new namespaces: {tried.stderr.decode(errors='replace').strip()}"
    return ""


def is_emulated() -> bool:
    """Whether this is an emulated test host: slow, and not perfect."""
    return "QEMU TCG" in Path("/proc/cpuinfo").read_text()


def probe_kvm() -> str:
    """A KVM that creates a VM and is not paravirtual: that one runs no unmodified Linux."""
    if Path("/sys/module/kvm_pvm").exists():
        return "/dev/kvm is paravirtual (kvm_pvm) and runs no unmodified Linux guest"
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    try:
        os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    except OSError as error:
        return f"KVM_CREATE_VM: {error.strerror}"
    finally:
        os.close(kvm)
    flags = Path("/proc/cpuinfo").read_text().split()
    if "vmx" not in flags and "svm" not in flags:
        return "the processor shows neither vmx nor svm: KVM cannot run Linux guests"
    return ""


def probe_runtime() -> str:
    """A containerd that answers, with our runtime where it looks for runtimes."""
    reason = probe_kvm()
    if reason:
        return reason
    for command in (["ctr", "version"], [RUNTIME, "-v"]):
        try:
            tried = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{' '.join(command)}: {error}"
        if tried.returncode != 0:
            complaint = tried.stderr.decode(errors="replace").strip()
            return f"{' '.join(command)} failed ({tried.returncode}): {complaint}"
    return ""
