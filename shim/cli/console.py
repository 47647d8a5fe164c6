"""`sampan console ID`: what the guest of a sandbox has written to its console.

Hazard: it is the guest's text, and a taken-over vmm's.  Control characters would act on the
operator's terminal, so none is shown; and no more than MOST_BYTES are read at a time.
"""

import argparse
import os
import sys
import time
from typing import Final

from shim.host.pids import is_alive, load_identity
from shim.machine.directory import SandboxDirectory, list_sandboxes

MOST_BYTES: Final = 1 << 20
POLL_S: Final = 0.5


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("console", help="what a sandbox's guest wrote to its console")
    parser.add_argument("id", help="the container's, or its pod's")
    parser.add_argument("--namespace", help="containerd's, where several have such an id")
    parser.add_argument("--follow", action="store_true", help="until the machine ends")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    found = [
        (key.namespace, sandbox)
        for key, sandbox in list_sandboxes()
        if key.sandbox_id == options.id and options.namespace in (None, key.namespace)
    ]
    if len(found) != 1:
        names = ", ".join(namespace for namespace, _ in found)
        why = f"there are several, in {names}: use --namespace" if found else "no such sandbox"
        print(f"sampan: {options.id!r}: {why}", file=sys.stderr)
        return 1
    show(found[0][1], follow=options.follow)
    return 0


def show(sandbox: SandboxDirectory, *, follow: bool) -> None:
    """From its last MOST_BYTES on; the file begins anew when it has become too long."""
    with open(sandbox.console, "rb", buffering=0) as console:
        console.seek(max(0, os.fstat(console.fileno()).st_size - MOST_BYTES))
        while True:
            goes_on = follow and is_running(sandbox)
            if console.tell() > os.fstat(console.fileno()).st_size:
                console.seek(0)
            while text := console.read(MOST_BYTES):
                sys.stdout.write(clean(text))
            sys.stdout.flush()
            if not goes_on:
                return
            time.sleep(POLL_S)


def is_running(sandbox: SandboxDirectory) -> bool:
    vmm = load_identity(sandbox.vmm_pid)
    return vmm is not None and is_alive(vmm)


def clean(text: bytes) -> str:
    """Printable characters, tabs and ends of lines; others as a backslash and their number."""
    shown = text.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else escape(c) for c in shown)


def escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
