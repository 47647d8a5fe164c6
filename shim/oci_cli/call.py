"""One call of the OCI command line: what it says, and who waits for it."""

import os
import socket
from dataclasses import dataclass

from shim.machine.launch import Launch
from shim.oci_cli.record import DEFAULT_ROOT, Record, load_record
from shim.oci_cli.usage import CommandLine


@dataclass(frozen=True, slots=True)
class Call:
    line: CommandLine
    connection: socket.socket
    """To the launcher."""
    launch: Launch

    @property
    def root(self) -> str:
        return os.path.abspath(self.line.general.text("root", DEFAULT_ROOT))

    def find(self) -> Record:
        """The container that the first word names."""
        return load_record(self.root, self.line.words[0])


def write_pid_file(path: str, pid: int) -> None:
    """Atomically, as who waits for the file reads it at once; "" is none."""
    if not path:
        return
    temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(pid))
    os.rename(temporary, path)
