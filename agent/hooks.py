"""The hooks that crun runs in the guest: whether the files of those that run before the
container has its own root are here.

Spec: OCI runtime-spec 1.2, config.md "POSIX-platform Hooks".  createContainer hooks are
files of the runtime's namespace, which for crun is the guest's.  startContainer hooks are
files of the container: crun finds them, or says that it does not.
"""

import os
from typing import Any

from agent.errors import InvalidArgument


def check_hooks(document: dict[str, Any]) -> None:
    hooks = (document.get("hooks") or {}).get("createContainer") or []
    for index, hook in enumerate(hooks):
        path = hook.get("path", "")
        if not os.path.exists(path):
            field = f"hooks.createContainer[{index}].path"
            raise InvalidArgument(
                f"{field}: {path!r}: there is no such file in the guest, "
                "where this hook runs; createRuntime hooks run on the host"
            )
