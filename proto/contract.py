"""What the host side and the guest side must agree on, written once.

Imported by shim, agent and image; imports nothing.  A change here is a change
of the guest image: raise PROTOCOL_VERSION when an old image would misbehave.
"""

from typing import Final

PROTOCOL_VERSION: Final = 1

# --- vsock (virtio 1.2 §5.10) -------------------------------------------------
HOST_CID: Final = 2
GUEST_CID: Final = 3
AGENT_PORT: Final = 1024
"""The agent's gRPC server."""
STREAM_PORT: Final = 1025
"""Container stdio.  The host connects once per stream and first sends
STREAM_TOKEN_BYTES raw bytes (the token whose hex form a `Stdio` message
carries).  Then stdin flows host to guest and ends with SHUTDOWN_SEND; stdout
and stderr flow guest to host and end with SHUTDOWN_SEND once the last writer
in the guest has closed."""
STREAM_TOKEN_BYTES: Final = 16

# --- virtio-fs (virtio 1.2 §5.11) ---------------------------------------------
IMAGE_TAG: Final = "sampan-image"
"""The guest's own root: read only, never changes while a guest runs."""
ROOTFS_TAG: Final = "sampan-rootfs"
"""Container root file systems at /<container id>: used by this guest alone."""
VOLUMES_TAG: Final = "sampan-volumes"
"""Bind mounts at /<container id>/<n>: the host may change them at any time."""

# --- paths inside the guest ---------------------------------------------------
GUEST_ROOTFS_DIR: Final = "/run/sampan/rootfs"
GUEST_VOLUMES_DIR: Final = "/run/sampan/volumes"
GUEST_INIT: Final = "/sbin/sampan-init"
"""What the kernel starts as PID 1: the agent."""
GUEST_MODULES_FILE: Final = "/etc/sampan/modules"
"""Absolute paths of kernel modules (plain .ko), one a line, in load order."""
GUEST_TRIAL_DIR: Final = "/usr/share/sampan/trial"
"""Root of the trial container, which leaves nothing: mount points, GUEST_TRIAL_PROGRAM."""
GUEST_TRIAL_PROGRAM: Final = "/trial"
"""Ends at once, with status 0."""

# --- a template's files ---------------------------------------------------------
MEMORY_FILE: Final = "memory"
STATE_FILE: Final = "state.json"
WORKING_SET_FILE: Final = "working_set"
"""Present if a trial clone has run."""

# --- limits -------------------------------------------------------------------
MAX_ID_BYTES: Final = 76
"""Of container and exec ids, as in containerd's identifiers package."""
ENTROPY_BYTES: Final = 64
"""What a clone is given: twice what the kernel's generator holds."""
MAX_GRPC_MESSAGE_BYTES: Final = 16 << 20
STREAM_CONNECT_TIMEOUT_S: Final = 60
DRAIN_TIMEOUT_S: Final = 10
"""How long an ended process's output may take to reach its reader."""
