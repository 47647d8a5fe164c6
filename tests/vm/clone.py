"""Templates and clones of the real guest image, without a shim."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proto import contract
from proto.gen.agent.v1 import agent_pb2 as pb
from shim.host.seal import seal_directory
from tests.vm.conftest import IMAGE
from tests.vm.guest import Guest
from tests.vm.machine import DEADLINE_S, VmmProcess

HOST_NAME = "clones-host"
FILES = (contract.MEMORY_FILE, contract.STATE_FILE, contract.WORKING_SET_FILE)


def save_template(directory: Path, origin: Path, **changes: Any) -> str:
    """Once the agent has answered."""
    with VmmProcess() as vmm:
        guest = Guest(vmm, origin)
        guest.boot(saves=True, **changes)
        guest.close()
        with (
            (directory / contract.MEMORY_FILE).open("xb") as memory,
            (directory / contract.STATE_FILE).open("xb") as state,
        ):
            vmm.request("save", fds=[memory.fileno(), state.fileno()])
    seal(directory)
    return str(directory)


def seal(directory: Path) -> None:
    seal_directory(str(directory), FILES, [str(IMAGE / "vmlinux")])


@contextmanager
def cloned(template: str, directory: Path, **changes: Any) -> Iterator[Guest]:
    directory.mkdir()
    with VmmProcess() as vmm:
        guest = Guest(vmm, directory)
        assert guest.begin(template, **changes)["cloned"]
        guest.faults_at_start = count_faults(vmm.process.pid)
        renew_identity(guest)
        yield guest
        guest.close()


def renew_identity(guest: Guest) -> None:
    guest.wait_agent()
    request = pb.RenewIdentityRequest(
        entropy=secrets.token_bytes(contract.ENTROPY_BYTES),
        realtime_ns=time.time_ns(),
        hostname=HOST_NAME,
    )
    guest.stub.RenewIdentity(request, timeout=DEADLINE_S)


def count_faults(pid: int) -> int:
    """proc(5), /proc/PID/stat, minflt: KVM's faults on the guest's behalf are among them."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])
