"""What a test host is, whichever machine it turns out to be."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from tests.testhost.base import Base
from tests.testhost.session import Job


@dataclass(frozen=True)
class Built:
    """Everything that was made on the outer side: ext4 images that no run writes to."""

    base: Base
    tree: Path
    guest: Path | None


class Host(Protocol):
    """One host can run several jobs, each on a fresh machine."""

    puts_inside: str
    """Where the command's side finds the tar of the files put in."""

    def run(self, job: Job, files: BinaryIO, timeout_s: float | None) -> int:
        """The command's status.  HostFailure when the host, not the command, is at fault.

        `files` takes the tar of what is fetched.
        """
