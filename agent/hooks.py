"""The hooks that crun runs in the guest: whether their files are there.

Spec: OCI runtime-spec 1.2, config.md "POSIX-platform Hooks".  createContainer hooks are
files of the runtime's namespace, which for crun is the guest's; startContainer hooks are
files of the container.  crun itself tells of a missing file only in the container's output.
"""

import os
from collections.abc import Callable
from typing import Any

from agent.errors import InvalidArgument


def check_create_hooks(document: dict[str, Any]) -> None:
    check_files(document, "createContainer", os.path.exists, "the guest")


def check_start_hooks(document: dict[str, Any], has_file: Callable[[str], bool]) -> None:
    """`has_file`: whether the container, which is created, has a file at an absolute path."""
    check_files(document, "startContainer", has_file, "the container")


def check_files(
    document: dict[str, Any], name: str, has_file: Callable[[str], bool], place: str
) -> None:
    for index, hook in enumerate((document.get("hooks") or {}).get(name) or []):
        path = hook.get("path", "")
        if not has_file(path):
            raise InvalidArgument(
                f"hooks.{name}[{index}].path: {path!r}: there is no such file in {place}, "
                "where this hook runs; createRuntime hooks run on the host"
            )
