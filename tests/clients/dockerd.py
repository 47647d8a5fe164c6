"""dockerd beside the host's containerd, for as long as the calls take; its log in a file."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testhost.images import pack_busybox

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
BUSYBOX = Path("/usr/bin/busybox")
IMAGE = "localhost/sampan/busybox:1"
DEADLINE_S = 120
BY_CALL = 'run() { docker run --runtime "$RUNTIME" "$@"; }'
"""docker's runtime is a flag of `run`; podman's is one of the program."""
PRELUDE = """\
set -o pipefail
retry() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && break; sleep 0.3; done; "$@"; }
# Of an error the part that both runtimes have, about the program.
say_exec() { tr -d '\\r' | sed 's/.*exec: /exec: /; s/: [a-z ]*[.]*$//'; }
"""
"""What every call may use."""
CLEAN_UP = """\
docker ps -aq | xargs -r docker rm -fv >/dev/null
docker volume ls -q | xargs -r docker volume rm -f >/dev/null
docker network prune -f >/dev/null
docker image ls -q made | xargs -r docker rmi -f >/dev/null
"""
END_DEADLINE_S = 60


@contextmanager
def running_dockerd(log: Path, *options: str) -> Iterator[None]:
    command = ["dockerd", "--containerd", CONTAINERD_SOCKET, *options]
    with log.open("ab") as file:
        daemon = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        wait_answer(daemon, log)
        yield
    finally:
        daemon.terminate()
        daemon.wait(END_DEADLINE_S)


def wait_answer(daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while subprocess.run(["docker", "version"], capture_output=True, check=False).returncode != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"dockerd is not up: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


def import_image() -> None:
    with tempfile.TemporaryDirectory() as directory:
        layer = Path(directory) / "layer.tar"
        pack_busybox(BUSYBOX, layer)
        command = ["docker", "import", "--change", 'CMD ["sh"]', str(layer), IMAGE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
