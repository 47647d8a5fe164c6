"""Messages on the private socket between a shim and its vmm.

SOCK_SEQPACKET, one JSON object a packet, file descriptors beside it by
SCM_RIGHTS.  The vmm inherits its end as fd CONTROL_FD.  The shim sends
requests, the vmm answers each once, in any order, and sends events by itself:

    {"id": 1, "op": "boot", "args": {…}}
    {"id": 1, "result": {…}}
    {"id": 1, "error": {"category": "HostResource", "message": "…"}}
    {"event": "stopped", "args": {…}}

When the socket closes, the vmm stops its machine and exits: a vmm never
outlives its shim.  Nothing here comes from the guest unchecked but text (the
console's tail), which is only data.
"""

from enum import StrEnum
from typing import Any, Final, NamedTuple

CONTROL_FD: Final = 3
MAX_PACKET_BYTES: Final = 64 << 10
MAX_PACKET_FDS: Final = 16
MAX_NIC_PAIRS: Final = 8
"""A tap's queues and vhost-net's fit into one packet."""


class Operation(StrEnum):
    """What the shim may ask; the argument and result classes are below."""

    BOOT = "boot"  # MachineConfig → BootResult; fds: listening sockets of `ports`, in order,
    # then the tree of the shares (open_tree(2)) where the machine has a `root_path`
    PREWARM = "prewarm"  # as BOOT, for a prewarmed machine: it does not run yet, never boots → {}
    START = "start"  # {} → BootResult, of a prewarmed one; fds: stderr, then network namespace
    OPEN_STREAM = "open_stream"  # StreamArgs → {}; fds: [the stream's]
    ATTACH_NIC = "attach_nic"  # NicArgs → {}; fds: a tap's queues, as many of vhost-net or none
    SAVE = "save"  # {} → {}; fds: for memory and state; then only `stop` may follow
    SAVE_WORKING_SET = "save_working_set"  # {} → {}; fds: for the list of pages touched so far
    COUNTERS = "counters"  # {} → {"exits": {name: n}, "devices": {…}}
    STOP = "stop"  # {} → {}; the machine ends at once, then the process


class Event(StrEnum):
    STOPPED = "stopped"  # StoppedEvent, once
    STREAM_CLOSED = "stream_closed"  # StreamClosedEvent, once for each open_stream


class SharePolicy(StrEnum):
    """Caching rules of a virtio-fs share."""

    IMAGE = "image"  # read only, never changes
    EXCLUSIVE = "exclusive"  # this guest is the only user
    SHARED = "shared"  # the host may change it at any time


class JailMode(StrEnum):
    """How a vmm is confined before its guest runs.  In each mode it has its own root."""

    ON = "on"  # system calls, capabilities, paths (where the kernel has Landlock)
    REQUIRE = "require"  # the same; without Landlock nothing runs
    LOG = "log"  # system calls for which `on` ends the vmm are only logged by the kernel
    OFF = "off"


SHARED_IMAGE: Final = "/image"
SHARED_ROOTFS: Final = "/rootfs"
SHARED_VOLUMES: Final = "/volumes"
"""Directories of the root that a vmm has in its jail."""


class Share(NamedTuple):
    tag: str
    path: str
    """In the jail, where the machine has a `root_path`."""
    policy: SharePolicy


class MachineConfig(NamedTuple):
    """A machine to boot.  Sizes in bytes, paths absolute."""

    vcpus: int
    memory_bytes: int
    kernel_path: str
    console_path: str
    """The guest's serial console; made 0600, bounded to console_limit_bytes."""
    shares: tuple[Share, ...]
    ports: tuple[int, ...] = ()
    """Guest vsock ports that connections to the sent listening sockets go to."""
    kernel_arguments: str = ""
    """Appended to the vmm's own command line."""
    console_limit_bytes: int = 1 << 20
    nics: int = 0
    """Network interfaces, without a link until attach_nic."""
    template: str = ""
    """Directory of the template to restore; "" to boot."""
    root_path: str = ""
    """A directory to mount the tree of the shares on; "": the vmm keeps its root and has no
    jail."""
    image_path: str = ""
    """The guest image's root, to be SHARED_IMAGE."""
    jail: str = JailMode.OFF
    saves: bool = False
    """It becomes or tries a template: SAVE or SAVE_WORKING_SET will be requested."""

    def to_json(self) -> dict[str, Any]:
        return {**self._asdict(), "shares": [share._asdict() for share in self.shares]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "MachineConfig":
        shares = tuple(
            Share(s["tag"], s["path"], SharePolicy(s["policy"])) for s in value["shares"]
        )
        return cls(**{**value, "shares": shares, "ports": tuple(value["ports"])})


class BootResult(NamedTuple):
    """The vCPUs run; the guest is still booting, unless it is a clone."""

    cloned: bool
    timings_us: dict[str, int]


class Direction(StrEnum):
    TO_GUEST = "to_guest"
    FROM_GUEST = "from_guest"


class StreamArgs(NamedTuple):
    """Joins the fd sent along with a new connection to contract.STREAM_PORT."""

    stream: int
    token: str
    direction: Direction


class NicArgs(NamedTuple):
    """Gives spare interface number `nic` its address and the tap sent along, which has
    count_pairs(vcpus) queues."""

    nic: int
    mac: str
    """As `02:00:00:12:34:56`."""


def count_pairs(vcpus: int) -> int:
    """Pairs of queues that each network interface of a machine has."""
    return min(vcpus, MAX_NIC_PAIRS)


class StopReason(StrEnum):
    POWEROFF = "poweroff"  # the guest powered itself off
    RESET = "reset"  # the guest rebooted: its kernel panicked
    TRIPLE_FAULT = "triple_fault"
    KVM_ERROR = "kvm_error"  # KVM failed; `detail` says why
    REQUESTED = "requested"


class StoppedEvent(NamedTuple):
    reason: StopReason
    detail: str


class StreamClosedEvent(NamedTuple):
    stream: int
    bytes_moved: int
    error: int
    """0, or an errno."""
