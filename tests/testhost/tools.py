"""Puts the programs that the outer side needs on this machine.

Owns nothing.  Installs with apt and only what is missing.  QEMU must be 10 or
newer: earlier ones lose interrupts of nested guests and kill the host with int3
oopses once they run several threads.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.testhost.log import say
from tests.testhost.mirror import Source, find_source, machine_uris, private_apt
from tests.testhost.quiet import run_quietly

QEMU = "qemu-system-x86_64"
MIN_QEMU_MAJOR = 10
DEBIAN_PACKAGES = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "unshare": "util-linux",
    "modprobe": "kmod",
    "git": "git",
}
BACKPORTS_OF = {"bookworm": "bookworm-backports"}


class ToolError(Exception):
    """A program cannot be had.  Says which one and why."""


def install_tools() -> None:
    """CalledProcessError when apt fails."""
    missing = [pkg for tool, pkg in DEBIAN_PACKAGES.items() if shutil.which(tool) is None]
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        missing.append("debian-archive-keyring")
    if missing:
        say(f"installing {' '.join(missing)}")
        apt(["update"])
        apt(["install", *missing])


def install_qemu() -> None:
    if qemu_major() >= MIN_QEMU_MAJOR:
        return
    say("installing QEMU")
    codename = os_codename()
    if codename in BACKPORTS_OF:
        install_backport(codename, BACKPORTS_OF[codename])
    else:
        apt(["update"])
        apt(["install", "qemu-system-x86"])
    if qemu_major() < MIN_QEMU_MAJOR:
        raise ToolError(f"{QEMU} is version {qemu_major()}; {MIN_QEMU_MAJOR} or newer is needed")


def install_backport(codename: str, suite: str) -> None:
    with tempfile.TemporaryDirectory(prefix="sampan-apt-") as state:
        backports = find_source(suite, Path(state))
        sources = [backports, *(Source(uri, codename) for uri in machine_uris()[:1])]
        options = private_apt(Path(state), sources)
        apt([*options, "update"])
        apt([*options, "-t", suite, "install", "qemu-system-x86"])


def qemu_major() -> int:
    """0 when there is none."""
    if shutil.which(QEMU) is None:
        return 0
    shown = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"version (\d+)\.", shown)
    return int(match[1]) if match else 0


def os_codename() -> str:
    fields = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    return fields.get("VERSION_CODENAME", "").strip('"')


def apt(arguments: list[str]) -> None:
    run_quietly(
        ["apt-get", "-qq", "-y", "--no-install-recommends", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
    )
