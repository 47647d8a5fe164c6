"""What a sandbox has added to interfaces of others (CNI), and how it is undone.

The shim undoes it at its end; if the shim was killed, `delete` does, by the note
in the sandbox's directory.  Imports little: `delete` has a few seconds.
"""

import json
import os
from collections.abc import Sequence

from shim.errors import SampanError
from shim.host.netns import entered, open_namespace
from shim.machine.directory import SandboxDirectory
from shim.net.ingress import drop_ingress


def write_note(sandbox: SandboxDirectory, path: str, names: Sequence[str]) -> None:
    """`path`: that of the namespace."""
    with open(sandbox.network, "w", encoding="utf-8") as file:
        json.dump({"namespace": path, "links": list(names)}, file)


def undo_note(sandbox: SandboxDirectory) -> list[str]:
    """Returns what could not be undone.  A namespace that is gone needs nothing."""
    try:
        with open(sandbox.network, encoding="utf-8") as file:
            note = json.load(file)
        names = [str(name) for name in note["links"]]
        namespace = open_namespace(str(note["namespace"]))
    except (OSError, ValueError, KeyError, TypeError, SampanError):
        return []
    try:
        return release_links(namespace, names)
    finally:
        os.close(namespace)


def release_links(namespace: int, names: Sequence[str]) -> list[str]:
    with entered(namespace):
        return drop_ingress(names)
