"""Finds where this machine's own Debian mirror serves another suite.

Owns nothing on disk but a private apt state in a directory the caller gives.
The machine's sources are only read: the mirror's address is taken from them,
with credentials and proxies as apt has them, and the suite alone is changed.
A mirror that is a dated snapshot (".../archive/debian/<date>") may be older than
the suite wanted, so the undated path beside it is tried after it.
"""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RELEASES = "bullseye bookworm trixie forky sid oldstable stable testing unstable".split()
# apt's own settings that decide how a mirror is reached; the rest of the
# machine's configuration is its own business.
CARRIED_SETTINGS = re.compile(r"^Acquire::(https?|ftp|Retries|Check-|ForceIPv|Queue|Proxy)")


class MirrorError(Exception):
    """No mirror serves the suite.  Names every address that was tried."""


@dataclass(frozen=True)
class Source:
    """One archive and the suite of it that is read."""

    uri: str
    suite: str

    def to_line(self) -> str:
        return f"deb [signed-by={KEYRING} arch=amd64] {self.uri} {self.suite} main"


def derive_uris(printed: Iterable[str]) -> list[str]:
    """The Debian archives named by the lines of `apt-get update --print-uris`, best first.

    Other vendors' archives have suites of other names, and the security archive
    has other paths: both are passed over.
    """
    dated: list[str] = []
    undated: list[str] = []
    for line in printed:
        match = re.match(r"'(\S+)/dists/([a-z]+)(?:-updates)?/InRelease'", line)
        if match is None or match[2] not in RELEASES:
            continue
        dated.append(match[1])
        undated.append(re.sub(r"/archive/(debian)/\d{8}(T\d{6}Z)?$", r"/\1", match[1]))
    return list(dict.fromkeys(dated + undated))


def machine_uris() -> list[str]:
    # Not indextargets: it is silent about sources whose lists were never fetched.
    command = ["apt-get", "update", "--print-uris"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    return derive_uris(printed.stdout.splitlines())


def apt_settings() -> list[str]:
    """The machine's proxy and transport settings as lines of apt.conf."""
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    lines = dumped.stdout.splitlines()
    return [line for line in lines if CARRIED_SETTINGS.match(line) and not line.endswith('"";')]


def private_apt(state: Path, sources: Iterable[Source]) -> list[str]:
    """apt options that read `sources` alone and keep the lists below `state`."""
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    listing = state / "sources.list"
    listing.write_text("".join(source.to_line() + "\n" for source in sources))
    settings = {
        "Dir::State::Lists": state / "lists",
        "Dir::Etc::SourceList": listing,
        "Dir::Etc::SourceParts": "/dev/null",
        "APT::Sandbox::User": "root",  # the lists may lie where _apt cannot look
        "APT::Update::Error-Mode": "any",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def find_source(suite: str, state: Path) -> Source:
    """The first of the machine's mirrors that serves `suite`; its lists are left in `state`."""
    refusals = []
    for uri in machine_uris():
        source = Source(uri, suite)
        command = ["apt-get", "-qq", *private_apt(state, [source]), "update"]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return source
        refusals.append(f"{uri}: {tried.stderr.strip().splitlines()[:1]}")
    raise MirrorError(f"no mirror of this machine serves Debian {suite}: {refusals or 'none set'}")
