"""A template is found only for machines of its class; it is complete or absent."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from shim.cli.main import main
from shim.config import Config
from shim.errors import AlreadyExists, HostResource, NotFound
from shim.host.spawn import TREE
from shim.machine.machine import SandboxMachine
from shim.machine.size import MIB, MachineSize
from shim.machine.templates import background, maker
from shim.machine.templates.background import ensure_template
from shim.machine.templates.identity import (
    DESCRIPTION,
    MachineClass,
    describe_class,
    digest_code,
    find_template,
    name_class,
    read_number,
    use_template,
)
from shim.machine.templates.maker import own_sandbox, wait_idle
from shim.machine.templates.store import (
    FILES,
    Template,
    get_template,
    list_templates,
    make_directory,
    place_template,
    remove_template,
    verify_template,
)

CLASS = MachineClass(MachineSize(1, 512 * MIB), 1)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    image = tmp_path / "image"
    (image / "root").mkdir(parents=True)
    (image / "vmlinux").write_bytes(b"kernel")
    (image / "manifest.json").write_text("{}")
    return Config(image_dir=str(image), templates_dir=str(tmp_path / "templates"))


def make(config: Config, machine_class: MachineClass = CLASS) -> Template:
    directory = make_directory(config)
    for name in FILES:
        Path(directory, name).write_text(f"what {name} holds")
    return place_template(config, directory, describe_class(config, machine_class))


def test_one_that_was_made_is_found(config: Config) -> None:
    assert find_template(config, CLASS) == ""
    template = make(config)
    assert find_template(config, CLASS) == template.path
    assert [found.name for found in list_templates(config)] == [template.name]
    assert get_template(config, template.name) == template


@pytest.mark.parametrize(
    "other",
    [
        MachineClass(MachineSize(2, 512 * MIB), 1),
        MachineClass(MachineSize(1, 513 * MIB), 1),
        MachineClass(MachineSize(1, 512 * MIB), 2),
    ],
    ids=["vcpus", "memory", "nics"],
)
def test_it_serves_no_other_class(config: Config, other: MachineClass) -> None:
    make(config)
    assert find_template(config, other) == ""


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image / "vmlinux").write_bytes(b"another"),
        lambda image: touch(image / "vmlinux"),
        lambda image: (image / "manifest.json").write_text("{ }"),
        lambda image: touch(image / "root"),
    ],
    ids=["kernel", "kernel's date", "manifest", "root"],
)
def test_a_changed_image_needs_a_new_one(config: Config, change: Callable[[Path], None]) -> None:
    make(config)
    change(Path(config.image_dir))
    assert find_template(config, CLASS) == ""


@pytest.mark.parametrize(
    "name", ["shim/vmm/machine.py", "shim/vmm/devices/fs.py", "proto/control.py"]
)
def test_changed_code_of_the_vmm_needs_a_new_one(tmp_path: Path, name: str) -> None:
    """A snapshot is restored by the code that made it."""
    for package in ("shim/vmm", "proto"):
        shutil.copytree(TREE / package, tmp_path / package)
    before = digest_code(str(tmp_path))
    (tmp_path / "shim/vmm/__pycache__").mkdir(exist_ok=True)
    (tmp_path / "shim/vmm/__pycache__/machine.pyc").touch()
    assert digest_code(str(tmp_path)) == before
    touch(tmp_path / name)
    assert digest_code(str(tmp_path)) != before


def test_the_kernels_arguments_are_part_of_the_class(config: Config) -> None:
    make(config)
    assert find_template(replace(config, kernel_arguments="debug"), CLASS) == ""


@pytest.mark.parametrize(
    "field", ["native", "host_kernel", "processor", "protocol", "sampan", "vmm"]
)
def test_what_the_host_and_we_are_is_part_of_the_class(config: Config, field: str) -> None:
    described = describe_class(config, CLASS)
    assert described[field]
    assert name_class({**described, field: "another"}) != name_class(described)


def test_a_kernel_that_is_missing_is_named(config: Config) -> None:
    with pytest.raises(HostResource, match="/no/kernel: No such file"):
        describe_class(replace(config, kernel="/no/kernel"), CLASS)


def test_one_that_is_half_made_is_none(config: Config) -> None:
    directory = make_directory(config)
    Path(directory, "memory").write_text("half")
    assert list(list_templates(config)) == []
    assert find_template(config, CLASS) == ""


def test_of_two_that_are_made_at_once_one_stays(config: Config) -> None:
    first, second = make(config), make(config)
    assert first == second
    assert os.listdir(config.templates_dir) == [first.name]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found_and_its_file_named(config: Config, name: str) -> None:
    template = make(config)
    verify_template(template)
    Path(template.path, name).write_text(f"What {name} holds")
    with pytest.raises(HostResource, match=f"/{name}: has changed since it was written"):
        verify_template(template)


def test_a_removed_one_leaves_nothing_and_its_clones_their_memory(config: Config) -> None:
    template = make(config)
    with open(f"{template.path}/memory") as memory:
        remove_template(template)
        assert memory.read() == "what memory holds"
    assert os.listdir(config.templates_dir) == []
    with pytest.raises(NotFound, match=template.name):
        get_template(config, template.name)


def test_two_do_not_make_the_same_at_once_and_a_killed_maker_is_no_hindrance(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPAN_STATE_DIR", str(tmp_path / "run"))
    described = describe_class(config, CLASS)
    with own_sandbox(described) as sandbox:
        making = f"process {os.getpid()} is making"
        with pytest.raises(AlreadyExists, match=making), own_sandbox(described):
            pass
        assert Path(sandbox.path).is_dir()
    assert not Path(sandbox.path).exists()
    with own_sandbox(described):
        Path(sandbox.shim_pid).write_text("999999999 1\n")
        with own_sandbox(described) as again:
            assert again.path == sandbox.path


def test_the_command_lists_verifies_and_removes(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    path = tmp_path / "config.yaml"
    keys = {"image_dir": config.image_dir, "templates_dir": config.templates_dir}
    path.write_text(json.dumps(keys))
    monkeypatch.setenv("SAMPAN_CONFIG", str(path))
    template = make(config)
    assert main(["template", "ls"]) == 0
    assert capsys.readouterr().out.startswith(f"{template.name} * vcpus=1 memory_mib=512 nics=1")
    assert main(["template", "verify"]) == 0
    assert capsys.readouterr().out == f"{template.name}: ok\n"
    touch(Path(config.kernel_path))
    assert main(["template", "ls"]) == 0
    assert capsys.readouterr().out.startswith(f"{template.name} - ")
    assert main(["template", "rm", template.name]) == 0
    assert main(["template", "rm", template.name]) == 1
    assert "no template" in capsys.readouterr().err


def touch_use(template: Template, when: int) -> None:
    os.utime(f"{template.path}/{DESCRIPTION}", (when, when))


@pytest.fixture
def classes_made(monkeypatch: pytest.MonkeyPatch) -> list[MachineClass]:
    """The classes that templates were made for; here a snapshot is a few files."""
    classes_made: list[MachineClass] = []

    def make_it(config: Config, machine_class: MachineClass) -> Template:
        classes_made.append(machine_class)
        return make(config, machine_class)

    monkeypatch.setattr(background, "make_template_alone", make_it)
    return classes_made


def test_a_class_without_a_template_gets_one(
    config: Config, classes_made: list[MachineClass]
) -> None:
    ensure_template(config, CLASS)
    ensure_template(config, CLASS)
    assert classes_made == [CLASS]


def test_one_that_is_damaged_is_made_again(
    config: Config, classes_made: list[MachineClass]
) -> None:
    template = make(config)
    Path(template.path, "memory").write_text("damaged")
    ensure_template(config, CLASS)
    assert classes_made == [CLASS]
    verify_template(get_template(config, template.name))


def test_one_that_was_refused_is_made_again_once(
    config: Config, classes_made: list[MachineClass]
) -> None:
    """Although it is complete; by then it may have failed for two machines."""
    refused = read_number(make(config).path)
    ensure_template(config, CLASS, refused)
    ensure_template(config, CLASS, refused)
    assert classes_made == [CLASS]
    assert read_number(find_template(config, CLASS)) not in (0, refused)


def test_a_template_that_is_gone_has_no_number(config: Config) -> None:
    template = make(config)
    remove_template(template)
    assert read_number(template.path) == read_number("") == 0


def test_the_one_that_was_used_the_longest_time_ago_makes_room(
    config: Config, classes_made: list[MachineClass]
) -> None:
    config = replace(config, max_templates=3)
    sizes = [MachineClass(MachineSize(1, mib * MIB), 1) for mib in (256, 1024, 2048)]
    made = [make(config, size) for size in sizes]
    for when, template in enumerate(made, start=1):
        touch_use(template, when)
    assert use_template(config, sizes[0]) == made[0].path
    ensure_template(config, CLASS)
    assert {found.name for found in list_templates(config)} == {
        made[0].name,
        made[2].name,
        name_class(describe_class(config, CLASS)),
    }


def test_a_failure_is_not_tried_at_once_again(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def fail(*_: object) -> Template:
        tries.append(1)
        raise HostResource("no space")

    monkeypatch.setattr(background, "make_template_alone", fail)
    with pytest.raises(HostResource):
        ensure_template(config, CLASS)
    ensure_template(config, CLASS)
    assert len(tries) == 1
    (note,) = Path(config.templates_dir).glob(".failed-*")
    os.utime(note, (1, 1))
    with pytest.raises(HostResource):
        ensure_template(config, CLASS)


def test_one_that_is_being_made_is_nobodys_failure(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> Template:
        raise AlreadyExists("the same template is being made")

    monkeypatch.setattr(background, "make_template_alone", busy)
    ensure_template(config, CLASS)
    assert not os.path.exists(config.templates_dir)


class ReportingMachine:
    """A machine whose guest has reported free memory this often, at each check."""

    def __init__(self, told: list[int]) -> None:
        self.told = told

    async def read_counters(self) -> dict[str, Any]:
        return {"devices": {"balloon": {"chains": self.told.pop(0)}}}


@pytest.mark.parametrize(
    ("told", "left"),
    [([0, 0, 9], [9]), ([0, 4, 6, 6, 9], [9]), (list(range(20)), list(range(10, 20)))],
    ids=["never", "until it stays the same", "for a bounded time"],
)
async def test_a_machine_is_saved_when_its_guest_has_told_what_is_free(
    monkeypatch: pytest.MonkeyPatch, told: list[int], left: list[int]
) -> None:
    monkeypatch.setattr(maker, "IDLE_CHECK_S", 0)
    await wait_idle(cast(SandboxMachine, ReportingMachine(told)))
    assert told == left
