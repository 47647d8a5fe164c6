"""The plain values that calls of the guest's agent take and give."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessName:
    """`exec_id` is "" for a container's init process."""

    container_id: str
    exec_id: str = ""


@dataclass(frozen=True, slots=True)
class StdioTokens:
    """Stream tokens; "" is /dev/null."""

    terminal: bool
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class AgentInfo:
    protocol_version: int
    kernel_release: str
    crun_version: str
