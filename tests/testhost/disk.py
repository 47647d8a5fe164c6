"""Makes the disks: ext4 from a directory, without mounting and without loop devices."""

from pathlib import Path

from tests.testhost.quiet import run_quietly


def make_ext4(image: Path, contents: Path | None, size_mib: int) -> None:
    """A sparse image; ownership, modes, links and extended attributes are kept."""
    command = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
    command += ["-d", str(contents)] if contents is not None else []
    run_quietly([*command, str(image), f"{size_mib}M"])
