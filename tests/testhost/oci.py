"""Packs one layer as an OCI image archive that `ctr image import` takes.

Format: OCI image layout 1.0 in a tar; the layer is gzipped.  Nothing but the
standard library, so a machine without any container tool can make images.
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20
MEDIA = "application/vnd.oci.image"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Blob:
    """Content by its digest."""

    media_type: str
    digest: str
    size: int

    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}

    @property
    def path(self) -> str:
        return "blobs/sha256/" + self.digest.removeprefix("sha256:")


def pack_image(layer: Path, name: str, archive: Path) -> None:
    """`layer` is an uncompressed tar; `name` is the full reference."""
    compressed = archive.with_suffix(".layer")
    diff_id = compress_layer(layer, compressed)
    try:
        with tarfile.open(archive, "w") as tar:
            layer_blob = add_file(tar, compressed, f"{MEDIA}.layer.v1.tar+gzip")
            config = add_json(tar, image_config(diff_id), f"{MEDIA}.config.v1+json")
            manifest = {
                "schemaVersion": 2,
                "mediaType": f"{MEDIA}.manifest.v1+json",
                "config": config.descriptor(),
                "layers": [layer_blob.descriptor()],
            }
            add_index(tar, add_json(tar, manifest, f"{MEDIA}.manifest.v1+json"), name)
    finally:
        compressed.unlink()


def compress_layer(layer: Path, compressed: Path) -> str:
    """The digest of what was compressed.  No time goes in: equal layers, equal images."""
    with layer.open("rb") as source, compressed.open("wb") as target:
        with gzip.GzipFile("", "wb", 1, target, mtime=0) as packed:
            shutil.copyfileobj(source, packed, BLOCK)
        source.seek(0)
        return digest_of(source)


def digest_of(source: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := source.read(BLOCK):
        digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def image_config(diff_id: str) -> dict[str, object]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [PATH], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }


def add_index(tar: tarfile.TarFile, manifest: Blob, name: str) -> None:
    entry = manifest.descriptor() | {
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name.rpartition(":")[2],
        },
    }
    add_member(tar, "index.json", encode({"schemaVersion": 2, "manifests": [entry]}))
    add_member(tar, "oci-layout", encode({"imageLayoutVersion": "1.0.0"}))


def add_json(tar: tarfile.TarFile, value: object, media_type: str) -> Blob:
    data = encode(value)
    blob = Blob(media_type, digest_of(io.BytesIO(data)), len(data))
    add_member(tar, blob.path, data)
    return blob


def add_file(tar: tarfile.TarFile, path: Path, media_type: str) -> Blob:
    with path.open("rb") as source:
        blob = Blob(media_type, digest_of(source), path.stat().st_size)
        source.seek(0)
        tar.addfile(member(blob.path, blob.size), source)
    return blob


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(member(name, len(data)), io.BytesIO(data))


def member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def encode(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
