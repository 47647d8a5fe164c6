"""Which hooks of a container's spec run on the host and which in the guest, and their input.

Pure.  OCI runtime spec 1.2: config.md "POSIX-platform Hooks", runtime.md "State" and
"Lifecycle".  The host is the spec's runtime namespace.  The container namespace is in
the guest, and so are the files of the hooks that run there.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from shim.errors import InvalidArgument

CREATED_HOOKS: Final = ("prestart", "createRuntime")
"""In the order in which they run."""
STARTED_HOOKS: Final = ("poststart",)
STOPPED_HOOKS: Final = ("poststop",)
GUEST_HOOKS: Final = ("createContainer", "startContainer")


@dataclass(frozen=True, slots=True)
class Hook:
    field: str
    """Where the spec has it, for errors."""
    path: str
    args: tuple[str, ...]
    env: dict[str, str]
    timeout_s: int | None
    """None: it may take as long as it likes."""


@dataclass(frozen=True, slots=True)
class HookPlan:
    """A container's hooks that run on the host, and what their state says at any time."""

    created: tuple[Hook, ...]
    started: tuple[Hook, ...]
    stopped: tuple[Hook, ...]
    identity: dict[str, Any]
    annotations: dict[str, str]
    bundle: str

    def describe_state(self, status: str, pid: int) -> bytes:
        """The JSON of a hook's stdin.  `pid` 0: the container has no process any more."""
        known = {"pid": pid} if pid else {}
        state = {**self.identity, "status": status, **known, "bundle": self.bundle}
        if self.annotations:
            state["annotations"] = self.annotations
        return json.dumps(state).encode()


def plan_hooks(spec: dict[str, Any], container_id: str, bundle: str) -> HookPlan:
    hooks = spec.get("hooks") or {}
    return HookPlan(
        created=list_hooks(hooks, CREATED_HOOKS),
        started=list_hooks(hooks, STARTED_HOOKS),
        stopped=list_hooks(hooks, STOPPED_HOOKS),
        identity={"ociVersion": spec["ociVersion"], "id": container_id},
        annotations=spec.get("annotations") or {},
        bundle=bundle,
    )


def list_hooks(hooks: dict[str, Any], names: tuple[str, ...]) -> tuple[Hook, ...]:
    return tuple(
        read_hook(hook, f"hooks.{name}[{index}]")
        for name in names
        for index, hook in enumerate(hooks.get(name) or [])
    )


def read_hook(hook: dict[str, Any], field: str) -> Hook:
    environment = {}
    for index, entry in enumerate(hook.get("env") or []):
        name, equals, value = entry.partition("=")
        if not name or not equals:
            raise InvalidArgument(f"{field}.env[{index}]: expected NAME=value, is {entry!r}")
        environment[name] = value
    return Hook(
        field=field,
        path=hook["path"],
        args=tuple(hook.get("args") or [hook["path"]]),
        env=environment,
        timeout_s=hook.get("timeout"),
    )


def keep_guest_hooks(hooks: dict[str, Any]) -> dict[str, Any]:
    """Those that crun runs in the guest."""
    return {name: hooks[name] for name in GUEST_HOOKS if hooks.get(name)}
