"""Ends what is left of a sandbox whose server does not do it: processes, network, directory.

Synchronous; imports as little as shim/machine/directory.py, for the same reason.
"""

import os
import sys

from shim.host.pids import end_process, load_identity
from shim.machine.directory import SandboxDirectory

VMM_PATIENCE_S = 0.5
KILL_WAIT_S = 1.0


def clean_up(sandbox: SandboxDirectory, patience_s: float) -> None:
    """Ends the server and the vmm of a sandbox and removes its directory; idempotent.

    Its mounts go with the last of the two: they are in their own mount namespace.
    """
    for path, patience in ((sandbox.shim_pid, patience_s), (sandbox.vmm_pid, VMM_PATIENCE_S)):
        identity = load_identity(path)
        if identity is not None and not end_process(identity, patience, KILL_WAIT_S):
            sys.stderr.write(f"process {identity.pid} of {sandbox.path} does not end\n")
    if os.path.exists(sandbox.network):
        from shim.machine.network_note import undo_note  # noqa: PLC0415

        for problem in undo_note(sandbox):
            sys.stderr.write(f"network namespace: {problem}\n")
    sandbox.remove()
