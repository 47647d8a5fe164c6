"""podman as the host's docker: a program named docker that calls podman with the runtime of
the call, and podman's configuration for a host without systemd and without a journal."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRAPPER = """\
#!/bin/sh
exec podman --runtime "${RUNTIME:-runc}" "$@"
"""
CONFIGURATION = """\
[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@contextmanager
def running_podman() -> Iterator[None]:
    """podman has no daemon; what it needs is in the environment meanwhile."""
    with tempfile.TemporaryDirectory(prefix="sampan-podman-") as directory:
        wrapper, configuration = Path(directory, "docker"), Path(directory, "containers.conf")
        wrapper.write_text(WRAPPER)
        wrapper.chmod(0o755)
        configuration.write_text(CONFIGURATION)
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{directory}:{before}"
        os.environ["CONTAINERS_CONF"] = str(configuration)
        try:
            yield
        finally:
            os.environ["PATH"] = before
            del os.environ["CONTAINERS_CONF"]
