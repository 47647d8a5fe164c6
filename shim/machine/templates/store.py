"""Templates on disk: listed, placed, verified, removed (found: see identity.py).

    /var/lib/sampan/templates/<24 hex digits>/    0700
        template.json        the class in plain words, checksums
        memory state.json    the stopped machine (shim/vmm/snapshot.py)
        working_set          a clone's working set, if it is known

A template is made beside its place and renamed into it; it never changes afterwards.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from shim.config import Config
from shim.errors import HostResource, NotFound
from shim.machine.templates.identity import DESCRIPTION, MEMORY, name_class

FILES: Final = (MEMORY, "state.json", "working_set")
HASH_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Template:
    """A complete one; `described` is the content of template.json."""

    path: str
    described: dict[str, Any]

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def list_templates(config: Config) -> Iterator[Template]:
    try:
        names = sorted(os.listdir(config.templates_dir))
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(config.templates_dir, name)
        try:
            with open(f"{path}/{DESCRIPTION}", encoding="utf-8") as file:
                described = json.load(file)
        except (OSError, ValueError):
            continue
        if {"class", "sha256"} <= described.keys():
            yield Template(path, described)


def get_template(config: Config, name: str) -> Template:
    for template in list_templates(config):
        if template.name == name:
            return template
    raise NotFound(f"{config.templates_dir}: no template {name!r}")


def make_directory(config: Config) -> str:
    """A new, empty one beside the templates, for the caller to fill and to place."""
    os.makedirs(config.templates_dir, mode=0o700, exist_ok=True)
    path = os.path.join(config.templates_dir, f".new-{os.getpid()}-{os.urandom(4).hex()}")
    os.mkdir(path, 0o700)
    return path


def place_template(config: Config, directory: str, described: dict[str, Any]) -> Template:
    """Takes the filled directory over.  A template that exists already stays."""
    path = os.path.join(config.templates_dir, name_class(described))
    document = {"class": described, "sha256": digest_files(directory)}
    with open(f"{directory}/{DESCRIPTION}", "x", encoding="utf-8") as file:
        json.dump(document, file)
    try:
        os.rename(directory, path)
    except OSError:
        if not os.path.exists(f"{path}/{DESCRIPTION}"):
            raise
        shutil.rmtree(directory)
    return Template(path, document)


def remove_template(template: Template) -> None:
    """Running clones keep their memory: the file's space is freed with the last of them."""
    hidden = os.path.join(os.path.dirname(template.path), f".old-{template.name}-{os.getpid()}")
    os.rename(template.path, hidden)
    shutil.rmtree(hidden)


def verify_template(template: Template) -> None:
    """HostResource that names the file that has changed."""
    found = digest_files(template.path)
    for name, digest in template.described["sha256"].items():
        if found.get(name) != digest:
            raise HostResource(f"{template.path}/{name}: has changed since it was written")


def digest_files(directory: str) -> dict[str, str]:
    """Of the files that exist."""
    names = [name for name in FILES if os.path.exists(f"{directory}/{name}")]
    return {name: digest_file(f"{directory}/{name}") for name in names}


def digest_file(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise HostResource(f"{path}: {error.strerror}") from error
    return digest.hexdigest()
