"""Images packed here follow the OCI image layout: every blob under its own digest."""

import gzip
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.testhost.images import pack_busybox
from tests.testhost.oci import pack_image

NAME = "localhost/sampan/thing:1"


@pytest.fixture
def archive(tmp_path: Path) -> dict[str, bytes]:
    """The members of an image whose one layer is "layer content"."""
    layer = tmp_path / "layer.tar"
    layer.write_bytes(b"layer content")
    pack_image(layer, NAME, tmp_path / "image.oci")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.oci", "layer.tar"]
    return read_tar(tmp_path / "image.oci")


def read_tar(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: file.read() for member in tar if (file := tar.extractfile(member))}


def blob(archive: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    algorithm, _, digest = descriptor["digest"].partition(":")
    data = archive[f"blobs/{algorithm}/{digest}"]
    assert len(data) == descriptor["size"]
    assert hashlib.sha256(data).hexdigest() == digest
    return data


def test_the_layout_version_is_marked(archive: dict[str, bytes]) -> None:
    assert json.loads(archive["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}


def test_index_manifest_config_and_layer_are_linked_by_digest(archive: dict[str, bytes]) -> None:
    (entry,) = json.loads(archive["index.json"])["manifests"]
    manifest = json.loads(blob(archive, entry))
    config = json.loads(blob(archive, manifest["config"]))
    (layer,) = manifest["layers"]
    assert gzip.decompress(blob(archive, layer)) == b"layer content"
    expected = "sha256:" + hashlib.sha256(b"layer content").hexdigest()
    assert config["rootfs"] == {"type": "layers", "diff_ids": [expected]}


def test_the_image_is_imported_under_its_full_name(archive: dict[str, bytes]) -> None:
    (entry,) = json.loads(archive["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == NAME


def test_equal_layers_make_equal_archives(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    layer.write_bytes(b"same")
    for name in ("a", "b"):
        pack_image(layer, NAME, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_applet_of_busybox_is_a_link_to_it(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_text("#!/bin/sh\nprintf 'bin/busybox\\nbin/sh\\nusr/bin/env\\nlinuxrc\\n'\n")
    busybox.chmod(0o755)
    pack_busybox(busybox, tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        links = {member.name: member.linkname for member in tar if member.issym()}
        assert tar.getmember("bin/busybox").mode == 0o755
        assert tar.getmember("tmp").mode == 0o1777
    assert links == {"bin/sh": "/bin/busybox", "usr/bin/env": "/bin/busybox"}
