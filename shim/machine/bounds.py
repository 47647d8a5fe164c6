"""Limits of the host for a sandbox: a cgroup for the shim, its vmm and their children.

Synchronous, before any thread.  A sandbox's directory has a note of the cgroup, for
`delete` to remove it after a shim that was killed (shim/machine/cleanup.py).
"""

from typing import Final, NamedTuple

from shim.errors import FailedPrecondition, HostResource
from shim.host.cgroup import HostCgroup, is_unified
from shim.machine.directory import SandboxDirectory

CPU_QUOTA: Final = "cpu.max"
"""Not before the guest has booted, which a small share of a CPU would make a matter of minutes;
`agent_timeout_s` bounds the time until then."""


class HostBounds(NamedTuple):
    cgroup: str
    """Below the root of the hierarchy; "" for none."""
    limits: dict[str, str]
    """Values by file names of cgroup v2."""


def enter_bounds(bounds: HostBounds, sandbox: SandboxDirectory) -> HostCgroup | None:
    """Moves this process, whose later children follow, into the cgroup; None if none is named.
    All limits hold from now on but the CPU quota: see begin_quota."""
    if not bounds.cgroup:
        return None
    if not is_unified():
        raise FailedPrecondition(
            f"linux.cgroupsPath: {bounds.cgroup}: this host has cgroup v1, sampan bounds its "
            "processes by cgroup v2 alone; `host_cgroup: never` in the configuration runs them "
            "without bounds"
        )
    cgroup = HostCgroup(bounds.cgroup)
    try:
        with open(sandbox.cgroup, "w", encoding="utf-8") as note:
            note.write(cgroup.path)
        cgroup.make()
        cgroup.limit({name: value for name, value in bounds.limits.items() if name != CPU_QUOTA})
        cgroup.enter()
    except OSError as error:
        raise HostResource(
            f"linux.cgroupsPath: {cgroup.path}: {error.strerror or error}"
        ) from error
    cgroup.quota = bounds.limits.get(CPU_QUOTA, "")
    return cgroup


def begin_quota(cgroup: HostCgroup | None) -> None:
    """When the guest has booted.  Nothing is done without a quota."""
    if cgroup is not None and cgroup.quota:
        change_bounds(cgroup, {CPU_QUOTA: cgroup.quota})


def change_bounds(cgroup: HostCgroup | None, limits: dict[str, str]) -> None:
    """Of a running sandbox; `limits` as in HostBounds.  Nothing is done without a cgroup."""
    if cgroup is None:
        return
    try:
        cgroup.limit(limits)
    except OSError as error:
        raise HostResource(f"{cgroup.path}: {limits}: {error.strerror or error}") from error


def describe_oom_kill(cgroup: HostCgroup | None) -> str:
    """The limit that a process of the cgroup was killed for; "" if none was."""
    if cgroup is None or not cgroup.count_oom_kills():
        return ""
    return f"{cgroup.path} may have {cgroup.read_limit()} bytes (memory.max)"
