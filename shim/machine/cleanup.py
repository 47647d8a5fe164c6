"""Ends what is left of a sandbox whose server does not do it: processes, network, directory.

Synchronous; imports as little as shim/machine/directory.py, for the same reason.
"""

import os
import sys

from shim.host.cgroup import ROOT, remove_cgroup
from shim.host.pids import end_process, load_identity
from shim.machine.directory import SandboxDirectory

VMM_TIMEOUT_S = 0.5
KILL_WAIT_S = 1.0


def clean_up(sandbox: SandboxDirectory, timeout_s: float) -> None:
    """Ends the server and the vmm of a sandbox and removes its directory; idempotent.

    Its mounts end with the last of the two: they are in their own mount namespace.
    """
    for path, timeout in ((sandbox.shim_pid, timeout_s), (sandbox.vmm_pid, VMM_TIMEOUT_S)):
        identity = load_identity(path)
        if identity is not None and not end_process(identity, timeout, KILL_WAIT_S):
            sys.stderr.write(f"process {identity.pid} of {sandbox.path} does not end\n")
    remove_noted_cgroup(sandbox)
    if os.path.exists(sandbox.network):
        from shim.machine.network_note import undo_note  # noqa: PLC0415

        for problem in undo_note(sandbox):
            sys.stderr.write(f"network namespace: {problem}\n")
    sandbox.remove()


def remove_noted_cgroup(sandbox: SandboxDirectory) -> None:
    try:
        with open(sandbox.cgroup, encoding="utf-8") as note:
            path = note.read()
        if path.startswith(f"{ROOT}/"):
            remove_cgroup(path)
    except FileNotFoundError:
        return
    except OSError as error:
        sys.stderr.write(f"cgroup {error.filename}: {error.strerror}\n")
