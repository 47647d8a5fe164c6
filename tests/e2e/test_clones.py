"""What clones of one template do not have in common (docs/security.md, Clones)."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from shim.config import load_config
from shim.machine.templates.store import (
    FILES,
    Template,
    get_template,
    make_directory,
    place_template,
)
from shim.oci.annotations import POD_NAMESPACE_ANNOTATION
from tests.e2e.conftest import Configure
from tests.e2e.ctr import DEBIAN, Ctr
from tests.e2e.test_template import sampan, was_cloned

PROBE = (Path(__file__).parent / "probe_clone.py").read_text()
FLAGS = ("--cap-add", "CAP_NET_ADMIN")
WORD = 1 << 32
PODS = ("team-a", "team-b")


@pytest.fixture(scope="module")
def clones(module_ctr: Ctr) -> list[dict[str, Any]]:
    """What each of two found in itself, twice, and the host's time before and after that."""
    found = []
    for _ in range(2):
        name = module_ctr.start("sleep", "1000", image=DEBIAN, flags=FLAGS)
        assert was_cloned(name)
        before = time.time()
        first, again = (probe(module_ctr, name) for _ in range(2))
        found.append({**first, "again": again, "host": (before, time.time())})
    return found


def probe(ctr: Ctr, name: str) -> dict[str, Any]:
    probed = ctr.exec(name, "python3", "-c", PROBE)
    assert probed.status == 0, probed
    facts: dict[str, Any] = json.loads(probed.stdout)
    return facts


@pytest.mark.parametrize(
    "name",
    [
        "boot_id",
        "uuid",
        "AT_RANDOM",
        "string hash",
        "source ports",
        "[stack]",
        "[heap]",
        "[vdso]",
        "libc.so.6",
    ],
)
def test_what_a_program_finds_is_no_other_clones(clones: list[dict[str, Any]], name: str) -> None:
    """The source ports of TCP follow from two secrets of the kernel, the others from its
    random numbers."""
    first, second = (found["own"][name] for found in clones)
    assert first
    assert first != second


@pytest.mark.parametrize("name", ["sequence numbers", "timestamps"])
def test_the_secrets_of_tcp_are_a_clones_own(clones: list[dict[str, Any]], name: str) -> None:
    """The kernel draws them when it first needs them: no connection may be made before the
    snapshot.  With one secret all peers' values would be the same but for the time that
    reading them has taken."""
    first, second = (found["tcp"][name] for found in clones)
    assert not all(map(have_one_secret, first, second)), (first, second)


@pytest.mark.parametrize("name", ["sequence numbers", "timestamps"])
def test_one_clone_has_one_secret_of_tcp(clones: list[dict[str, Any]], name: str) -> None:
    """So the test above can tell one secret from two."""
    for found in clones:
        first, again = found["tcp"][name], found["again"]["tcp"][name]
        assert all(map(have_one_secret, first, again)), (first, again)


def have_one_secret(one: dict[str, int], other: dict[str, int]) -> bool:
    """Two values that were read at different times."""
    away = (one["value"] - other["value"]) % WORD
    return min(away, WORD - away) <= one["ticks"] + other["ticks"] + 1


def test_a_clone_keeps_its_boot_id(clones: list[dict[str, Any]]) -> None:
    for found in clones:
        assert found["own"]["boot_id"] == found["again"]["own"]["boot_id"]
        assert found["own"]["uuid"] != found["again"]["own"]["uuid"]


def test_each_clones_clock_is_the_hosts(clones: list[dict[str, Any]]) -> None:
    for found in clones:
        before, after = found["host"]
        assert before - 1 < found["time"] < after + 1


def test_namespaces_have_no_page_of_a_template_in_common(
    ctr: Ctr, configure: Configure, tmp_path: Path
) -> None:
    """With `template_scope: namespace`, for pods' namespaces; the second one's template is
    made of the first one's files."""
    configure(template_scope="namespace", templates="use", templates_dir=tmp_path / "templates")
    made = sampan("template", "create", "--scope", f"default/{PODS[0]}").strip()
    first = get_template(load_config(), made)
    second = copy_for(f"default/{PODS[1]}", first)
    assert first.name != second.name
    mapped = []
    for pod in PODS:
        flags = ("--annotation", f"{POD_NAMESPACE_ANNOTATION}={pod}")
        name = ctr.start("sleep", "1000", flags=flags)
        assert was_cloned(name)
        mapped.append(list_mapped(ctr.task_pid(name), (first, second)))
    assert mapped == [[first.name], [second.name]]


def copy_for(scope: str, template: Template) -> Template:
    config = load_config()
    directory = make_directory(config)
    for name in FILES:
        shutil.copy(f"{template.path}/{name}", f"{directory}/{name}")
    return place_template(config, directory, {**template.described["class"], "scope": scope})


def list_mapped(vmm: int, templates: tuple[Template, ...]) -> list[str]:
    """Those whose memory the process maps."""
    lines = Path(f"/proc/{vmm}/maps").read_text().splitlines()
    files = {tuple(line.split()[3:5]) for line in lines}
    return [each.name for each in templates if identify_memory(each) in files]


def identify_memory(template: Template) -> tuple[str, str]:
    """Device and inode as in proc_pid_maps(5)."""
    found = Path(template.path, "memory").stat()
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}", str(found.st_ino)
