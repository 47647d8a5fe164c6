"""What an image was made of, written beside it as manifest.json.

Pure but for reading the files that are hashed.  With an equal `inputs_sha256` an
image need not be built again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

FORMAT: Final = 1
MANIFEST_NAME: Final = "manifest.json"


@dataclass(frozen=True)
class Component:
    """A package that is part of the image, whole or not."""

    name: str
    version: str
    sha256: str
    origin: str  # "debian" or "pypi"


@dataclass(frozen=True)
class BaseManifest:
    """The cached part: everything that is not of this tree."""

    key: str
    kernel_release: str
    vmlinux_sha256: str
    components: tuple[Component, ...]

    @classmethod
    def from_json(cls, text: str) -> "BaseManifest":
        fields = json.loads(text)
        components = tuple(Component(**entry) for entry in fields.pop("components"))
        return cls(components=components, **fields)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class TunedManifest:
    """The cached kernel that was compiled here."""

    recipe: str
    kernel_release: str
    vmlinux_sha256: str
    config_sha256: str
    compiler: str
    source: Component

    @classmethod
    def from_json(cls, text: str) -> "TunedManifest":
        fields = json.loads(text)
        return cls(source=Component(**fields.pop("source")), **fields)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class Manifest:
    """The whole image."""

    inputs_sha256: str
    protocol_version: int
    kernel_release: str
    kernel_origin: str  # "debian", "tuned", or the path that the user named
    vmlinux_sha256: str
    agent_sha256: str
    modules: tuple[str, ...]
    components: tuple[Component, ...]
    kernel_config_sha256: str = ""
    kernel_compiler: str = ""
    """The compiler of a kernel that was compiled here."""

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def read_inputs_hash(output: Path) -> str | None:
    """Of the image in `output`; None when there is none that is whole."""
    try:
        fields: Any = json.loads((output / MANIFEST_NAME).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        return None
    if not (output / "root").is_dir() or not (output / "vmlinux").is_file():
        return None
    return str(fields.get("inputs_sha256"))


def hash_text(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_sources(tree: Path, packages: Iterable[str]) -> str:
    """Of every .py file of these packages, by name and content."""
    parts: list[str] = []
    for package in packages:
        for path in sorted((tree / package).rglob("*.py")):
            parts += [str(path.relative_to(tree)), hash_file(path)]
    return hash_text(parts)
