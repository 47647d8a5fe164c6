"""Fetches Debian packages of the guest's suite and unpacks them.

Owns a private apt state below its directory, so the machine's own lists, sources
and dpkg status do not change.  Mirrors, proxies and credentials are the machine's:
only the suite in its Debian sources is changed.  Packages are verified by apt
against Debian's archive keyring.

Packages are taken by name, without their dependencies: those are mostly what
maintainer scripts need (dpkg, perl, debconf), and no script is ever run here.
The build checks afterwards that what it unpacked runs.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from image.errors import FetchError, ToolError
from image.tools import run_tool

SUITE: Final = "trixie"
KERNEL_METAPACKAGE: Final = "linux-image-cloud-amd64"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CODENAMES: Final = ("bullseye", "bookworm", "trixie", "forky", "sid")
ALIASES: Final = ("oldoldstable", "oldstable", "stable", "testing", "unstable")
RELEASE_LINE: Final = re.compile(
    r"'(?P<uri>\S+)/dists/(?P<base>[a-z]+)(?P<pocket>-updates|-security)?/InRelease'"
)
SNAPSHOT_DATE: Final = re.compile(r"/archive/(debian|debian-security)/\d{8}T\d{6}Z$")


@dataclass(frozen=True)
class Source:
    """One archive and the suite of it that is read."""

    uri: str
    suite: str

    def to_deb822(self) -> str:
        return (
            f"Types: deb\nURIs: {self.uri}\nSuites: {self.suite}\nComponents: main\n"
            f"Architectures: amd64\nSigned-By: {KEYRING}\n"
        )


@dataclass(frozen=True)
class Package:
    """A verified .deb on disk."""

    name: str
    version: str
    sha256: str
    path: Path


def derive_sources(printed: Iterable[str], suite: str) -> list[Source]:
    """The machine's Debian archives with `suite` in place of theirs, `suite` itself first.

    `printed` are the lines of `apt-get update --print-uris`.  Other vendors'
    archives have suites of other names and are passed over.  A dated snapshot
    may be older than `suite`: the undated path beside it comes after it.
    """
    dated: list[Source] = []
    undated: list[Source] = []
    for line in printed:
        match = RELEASE_LINE.match(line)
        if match is None or match["base"] not in CODENAMES + ALIASES:
            continue
        wanted = suite + (match["pocket"] or "")
        dated.append(Source(match["uri"], wanted))
        undated.append(Source(SNAPSHOT_DATE.sub(r"/\1", match["uri"]), wanted))
    found = list(dict.fromkeys(dated + undated))
    return sorted(found, key=lambda source: source.suite != suite)


def read_machine_sources() -> list[str]:
    # Not `apt-get indextargets`: it is silent about sources never fetched.
    return run_tool(["apt-get", "update", "--print-uris"]).decode().splitlines()


class Archive:
    """Debian's archive as seen through a private apt.

    Call order: open_archive(), then kernel_package(), fetch().  Holds no fds.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._debs = directory / "debs"

    def _options(self) -> list[str]:
        state = self._directory
        settings = {
            "Dir::State": state,
            "Dir::State::lists": state / "lists",
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "Dir::Etc::SourceList": "/dev/null",
            "Dir::Etc::SourceParts": state / "sources",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            # The lists may be in a directory that the user _apt cannot read.
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def prepare(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "sources", "debs"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / "status").write_bytes(b"")

    def update(self, sources: Sequence[Source]) -> None:
        """Reads each suite's lists from the first source that has them; SUITE is required."""
        listing = self._directory / "sources" / "sampan.sources"
        usable: list[Source] = []
        refusals: list[str] = []
        for source in sources:
            if any(source.suite == had.suite for had in usable):
                continue
            listing.write_text(source.to_deb822())
            try:
                run_tool(["apt-get", *self._options(), "-qq", "update", "--no-list-cleanup"])
            except ToolError as error:
                refusals.append(f"{source.uri} {source.suite}: {error}")
            else:
                usable.append(source)
        if not any(source.suite == SUITE for source in usable):
            raise FetchError(f"no archive serves Debian {SUITE}: " + " | ".join(refusals))
        listing.write_text("\n".join(source.to_deb822() for source in usable))

    def kernel_package(self) -> str:
        """The package that KERNEL_METAPACKAGE depends on now."""
        shown = self._show(KERNEL_METAPACKAGE)
        match = re.search(r"^Depends:.*?(linux-image-\d\S*-cloud-amd64)", shown, re.M)
        if match is None:
            raise FetchError(f"{KERNEL_METAPACKAGE} depends on no kernel package")
        return match[1]

    def _show(self, name: str) -> str:
        command = ["apt-cache", *self._options(), "show", "--no-all-versions", name]
        try:
            return run_tool(command).decode()
        except ToolError as error:
            raise FetchError(f"Debian {SUITE} has no package {name}: {error}") from error

    def look_up(self, name: str) -> tuple[str, str]:
        """The version and the hash of what fetch() would download now."""
        shown = self._show(name)
        fields = [re.search(rf"^{field}: (\S+)$", shown, re.M) for field in ("Version", "SHA256")]
        if not all(fields):
            raise FetchError(f"package {name}: apt shows no version or no hash")
        version, sha256 = (match[1] for match in fields if match)
        return version, sha256

    def fetch_unless_had(self, name: str) -> Package:
        """For large packages: keeps an earlier download that has the hash of look_up()."""
        if len(list(self._debs.glob(f"{name}_*.deb"))) == 1:
            had = self._describe(name)
            if (had.version, had.sha256) == self.look_up(name):
                return had
        return self.fetch([name])[0]

    def fetch(self, names: Sequence[str]) -> list[Package]:
        """Downloads what is not there yet; in the order of `names`."""
        for stale in self._debs.glob("*.deb"):
            if stale.name.partition("_")[0] in names:
                stale.unlink()
        try:
            run_tool(["apt-get", *self._options(), "-qq", "download", *names], cwd=self._debs)
        except ToolError as error:
            raise FetchError(f"Debian packages: {error}") from error
        return [self._describe(name) for name in names]

    def _describe(self, name: str) -> Package:
        found = sorted(self._debs.glob(f"{name}_*.deb"))
        if len(found) != 1:
            raise FetchError(f"package {name}: apt left {len(found)} files instead of one")
        version = unquote(found[0].name.split("_")[1])
        digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
        return Package(name, version, digest, found[0])


def open_archive(directory: Path) -> Archive:
    """An archive with fresh lists.  FetchError names every mirror that refused."""
    sources = derive_sources(read_machine_sources(), SUITE)
    if not sources:
        raise FetchError("apt on this machine has no Debian source to take a mirror from")
    if not KEYRING.exists():
        raise ToolError(f"{KEYRING} is missing; apt-get install debian-archive-keyring")
    archive = Archive(directory)
    archive.prepare()
    archive.update(sources)
    return archive


def unpack_package(package: Package, root: Path) -> None:
    """Unpacks its files only: no maintainer script runs."""
    run_tool(["dpkg-deb", "--extract", package.path, root])
