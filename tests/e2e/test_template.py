"""Containers that start from a template, and templates that cannot be used."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from shim.config import load_config
from shim.machine.templates.store import list_templates
from tests.e2e.conftest import Configure
from tests.e2e.containerd import Containerd
from tests.e2e.ctr import DEBIAN, TIMEOUT_S, Ctr

DRAW = """
import random, secrets, ssl, tempfile, uuid
print(uuid.uuid4(), secrets.token_hex(), ssl.RAND_bytes(32).hex(), random.random())
print(open("/proc/sys/kernel/random/uuid").read(), tempfile.mkdtemp())
"""
DRAWS = 6


def sampan(*words: str) -> str:
    return subprocess.run(["sampan", *words], check=True, capture_output=True, text=True).stdout


def was_cloned(name: str) -> bool:
    return bool(json.loads(sampan("counters", "default", name))["cloned"])


@pytest.fixture
def own_templates(configure: Configure, tmp_path: Path) -> Path:
    """A place where there are none yet."""
    configure(templates_dir=tmp_path / "templates")
    return tmp_path / "templates"


def test_a_container_starts_from_the_template_of_its_class(ctr: Ctr) -> None:
    assert "*" in sampan("template", "ls")
    name = ctr.start("sleep", "1000")
    assert was_cloned(name)
    assert ctr.exec(name, "echo", "fine").stdout == "fine\n"


def test_a_clones_kernel_reseeds_its_random_numbers(ctr: Ctr) -> None:
    """Its log says so (drivers/char/random.c)."""
    name = ctr.start("sleep", "1000", flags=("--privileged",))
    assert was_cloned(name)
    assert "reseeded due to virtual machine fork" in ctr.exec(name, "dmesg").stdout


def test_two_clones_never_draw_the_same(ctr: Ctr) -> None:
    """What programs make UUIDs, tokens and, by OpenSSL's generator, the keys of TLS from."""
    drawn: list[str] = []
    for _ in range(2):
        name = ctr.start("sleep", "1000", image=DEBIAN)
        assert was_cloned(name)
        drawn += ctr.exec(name, "python3", "-c", DRAW).stdout.split()
    assert len(drawn) == len(set(drawn)) == 2 * DRAWS


def test_a_container_of_another_class_boots(ctr: Ctr) -> None:
    name = ctr.start("sleep", "1000", flags=("--annotation", "dev.sampan.memory_mib=700"))
    assert not was_cloned(name)
    assert ctr.exec(name, "echo", "fine").stdout == "fine\n"


def test_templates_can_be_switched_off(ctr: Ctr, configure: Configure) -> None:
    configure(templates="never")
    name = ctr.start("sleep", "1000")
    assert not was_cloned(name)


def test_the_first_container_of_a_class_has_its_template_made(
    ctr: Ctr, configure: Configure, own_templates: Path
) -> None:
    """In the background, for the containers after it."""
    configure(templates="auto", templates_dir=own_templates)
    name = ctr.start("sleep", "1000")
    assert not was_cloned(name)
    deadline = time.monotonic() + TIMEOUT_S
    while not list(list_templates(load_config())):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    other = ctr.start("sleep", "1000")
    assert was_cloned(other)
    for each in (name, other):
        assert ctr.exec(each, "echo", "fine").stdout == "fine\n"
    assert [path.name.startswith(".") for path in own_templates.iterdir()] == [False]


def test_one_that_is_made_serves_and_one_that_is_damaged_costs_a_boot_and_is_reported(
    ctr: Ctr, own_templates: Path
) -> None:
    containerd = Containerd()
    template = sampan("template", "create", "--memory-mib", "600").strip()
    flags = ("--annotation", "dev.sampan.memory_mib=600")
    name = ctr.start("sleep", "1000", flags=flags)
    assert was_cloned(name)
    assert sampan("template", "verify") == f"{template}: ok\n"
    ctr.remove(name)
    (own_templates / template / "memory").write_bytes(b"short")
    name = ctr.start("sleep", "1000", flags=flags)
    assert not was_cloned(name)
    assert f"{template}/memory: not the" in containerd.read_log()
    sampan("template", "rm", template)
    assert list(list_templates(load_config())) == []
    assert list(own_templates.iterdir()) == []
