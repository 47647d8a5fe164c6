"""README.md and docs/ are correct: keys, messages, links, pictures, commands.

tests/e2e/test_docs.py runs what can be run; this file checks the rest.
"""

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from docs.pictures import make as pictures
from shim.cli.main import make_parser
from shim.config import RULES, Config, parse_config
from shim.errors import InvalidArgument, SampanError
from shim.oci_cli.usage import IGNORED, REFUSED, UNSUPPORTED_VERBS, VERBS, parse_command_line
from tests.documents import (
    KINDS,
    PLACEHOLDERS,
    TREE,
    Block,
    all_blocks,
    list_anchors,
    list_documents,
    read_prose,
    read_table,
)

BLOCKS: Final = all_blocks()
SHELL: Final = [block for block in BLOCKS if block.language == "sh"]
LINK: Final = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE: Final = re.compile(r"`([^`]+)`")
TARGET: Final = re.compile(r"^([a-z][a-z-]*):", re.M)
GROUND: Final = re.compile(r"^(Emulated|Hardware speed|Count), (\d{4}-\d{2}-\d{2})", re.M)
TESTHOST_RUN: Final = "tests/testhost/run"
OTHERS: Final = frozenset("apt cat tail rm ln pkill python3 ip ctr docker podman".split())
"""Programs of the system: only their file arguments are checked."""
NUMBERS: Final = re.compile(r"^(\d+) to (\d+)$")


def name_block(block: Block) -> str:
    return block.name


@pytest.mark.parametrize("block", BLOCKS, ids=name_block)
def test_every_block_says_how_it_is_tested(block: Block) -> None:
    assert block.kind in KINDS.get(block.language, ()), f"{block.language} {block.kind}"
    assert (block.kind == "shape") == bool(block.reason), "`shape` alone has a reason, and must"


@pytest.mark.parametrize("document", list_documents(), ids=lambda path: path.name)
def test_no_block_is_hidden_by_indentation(document: Path) -> None:
    lines = read_prose(document).splitlines()
    indented = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if not before.strip() and line.startswith("    ")
    ]
    assert indented == []


@pytest.mark.parametrize("block", SHELL, ids=name_block)
def test_every_command_is_one_that_there_is(block: Block) -> None:
    for command in block.commands:
        check_command(shlex.split(command))


def check_command(words: list[str]) -> None:
    while re.match(r"^[a-z_]+=", words[0]):  # name=$(sampan …)
        words = shlex.split(words[0].partition("$(")[2] + " " + " ".join(words[1:]).rstrip(")"))
    program, arguments = words[0], words[1:]
    if program == "make":
        check_targets(arguments)
    elif program == "sampan":
        check_sampan(arguments)
    elif program == TESTHOST_RUN:
        check_files(arguments)
    else:
        known = Path(program).name in OTHERS or program.startswith("/opt/sampan/bin/")
        assert known, f"{program}: a program that no test knows"
        check_files(arguments)


def check_targets(arguments: list[str]) -> None:
    makefile = (TREE / "Makefile").read_text()
    targets = [word for word in arguments if "=" not in word]
    variables = [word.partition("=")[0] for word in arguments if "=" in word]
    assert set(targets) <= set(TARGET.findall(makefile))
    assert [name for name in variables if f"$({name}" not in makefile] == []


def check_sampan(arguments: list[str]) -> None:
    if arguments[0] == "image":
        from image.cli import make_parser as make_image_parser

        make_image_parser().parse_args(arguments[1:])
        return
    if arguments[0] in VERBS:
        parse_command_line(arguments)
        return
    make_parser().parse_args(arguments)


def check_files(arguments: list[str]) -> None:
    """Paths of the tree: those whose first part is a folder of the tree."""
    folders = {path.name for path in TREE.iterdir() if path.is_dir()}
    named = [word for word in arguments if word.partition("/")[0] in folders and "/" in word]
    assert [word for word in named if not (TREE / word).exists()] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "make nothing",
        "make check NOTHING=1",
        "sampan chekc",
        "sampan template create --cpus 2",
        "sampan run --frob demo",
        "/opt/sampan/bin/pip -r requirements/none",
        "frobnicate",
    ],
)
def test_a_command_that_is_not_there_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, SampanError, SystemExit)):
        check_command(shlex.split(wrong))


@pytest.mark.parametrize("block", SHELL, ids=name_block)
def test_what_the_reader_replaces_is_known(block: Block) -> None:
    if block.kind == "e2e":
        words = set(re.findall(r"(?<![\w-])[A-Z]{3,}(?![\w-])", block.text)) - {"SIGKILL"}
        assert words <= set(PLACEHOLDERS)


def blocks_of(kind: str) -> Iterator[Block]:
    return (block for block in BLOCKS if block.kind == kind)


def test_configuration_files_are_valid() -> None:
    configured = list(blocks_of("config"))
    assert configured
    for block in configured:
        parse_config(block.text, block.name)


def test_containerds_configuration_names_the_runtime_and_pods_its_handler() -> None:
    handlers = set()
    for block in blocks_of("containerd"):
        (plugin,) = tomllib.loads(block.text)["plugins"].values()
        runtimes = plugin["containerd"]["runtimes"]
        handlers |= runtimes.keys()
        for runtime in runtimes.values():
            assert runtime["runtime_type"] == "io.containerd.sampan.v2"
    named = [yaml.safe_load(block.text)["handler"] for block in blocks_of("kubernetes")]
    assert named
    assert set(named) == handlers


def test_dockers_configuration_names_the_runtime() -> None:
    configured = [json.loads(block.text) for block in blocks_of("docker")]
    assert configured == [{"default-runtime": "io.containerd.sampan.v2"}]


def test_podmans_configuration_names_the_runtime() -> None:
    for block in blocks_of("podman"):
        engine = tomllib.loads(block.text)["engine"]
        (program,) = engine["runtimes"][engine["runtime"]]
        assert Path(program).name == engine["runtime"] == "sampan"


@pytest.mark.parametrize("document", list_documents(), ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in LINK.findall(read_prose(document)):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        found = (document.parent / path).resolve() if path else document
        if not found.exists() or (anchor and anchor not in list_anchors(found)):
            broken.append(target)
    assert broken == []


def test_the_readme_leads_to_every_document() -> None:
    targets = {target.partition("#")[0] for target in LINK.findall(read_prose(TREE / "README.md"))}
    there = {str(path.relative_to(TREE)) for path in list_documents()}
    assert there - targets == {"README.md"}


def read_code(cell: str) -> list[str]:
    return CODE.findall(cell)


def test_every_key_of_the_configuration_is_in_the_table_with_its_default() -> None:
    rows = read_table(TREE / "docs/configuration.md", "## Keys")
    told = {read_code(row[0])[0]: row[1].strip("`") for row in rows}
    defaults = {field.name: getattr(Config(), field.name) for field in fields(Config)}
    assert told.keys() == defaults.keys()
    for key, default in defaults.items():
        value = yaml.safe_load(told[key])
        assert value == "" == default or RULES[key](value) == default, key


def test_what_the_table_allows_is_what_is_allowed() -> None:
    for key, _, allowed, _ in read_table(TREE / "docs/configuration.md", "## Keys"):
        rule = RULES[read_code(key)[0]]
        refused: list[Any]
        bounds = NUMBERS.match(allowed)
        if bounds:
            low, high = int(bounds[1]), int(bounds[2])
            assert (rule(low), rule(high)) == (low, high)
            refused = [low - 1, high + 1]
        elif read_code(allowed):
            assert [rule(word) for word in read_code(allowed)] == read_code(allowed)
            refused = ["another"]
        else:
            wrong: dict[str, list[Any]] = {
                "absolute path": ["relative"],
                "one line": ["two\nlines"],
                "list of numbers": [["0"], 1],
                "list of words": [[1], "word"],
            }
            refused = wrong[allowed]
        for value in refused:
            with pytest.raises(ValueError, match="expected"):
                rule(value)


def test_every_annotation_of_ours_is_in_the_table() -> None:
    rows = read_table(TREE / "docs/configuration.md", "## Annotations")
    told = {read_code(row[0])[0] for row in rows}
    code = "".join(path.read_text() for path in (TREE / "shim").rglob("*.py"))
    assert told == set(re.findall(r'"(dev\.sampan\.[a-z_]+)"', code))


def test_messages_that_are_quoted_are_messages_of_the_code() -> None:
    rows = read_table(TREE / "docs/operations.md", "## Troubleshooting")
    quoted = [message for row in rows for message in read_code(row[0])]
    files = (path for package in ("shim", "agent") for path in (TREE / package).rglob("*.py"))
    code = "".join(path.read_text() for path in files)
    assert len(quoted) > 10
    assert [message for message in quoted if message not in code] == []


def test_an_unknown_key_is_refused_in_the_words_that_are_quoted() -> None:
    with pytest.raises(InvalidArgument, match="unknown key"):
        parse_config("memroy_mib: 1", "x")


def test_every_verb_of_the_program_is_documented() -> None:
    text = "".join(path.read_text() for path in list_documents())
    commands = list_commands(make_parser())
    assert {"sampan check", "sampan template ls"} <= commands
    hidden = {"sampan template ensure"}  # programs that only shims run
    assert [command for command in sorted(commands - hidden) if command not in text] == []


def test_every_verb_and_flag_of_the_oci_command_line_is_in_the_table() -> None:
    rows = read_table(TREE / "docs/oci.md", "## Verbs and flags")
    told = {read_code(row[0])[0]: set(read_code(row[1])) for row in rows}
    assert told == {name: (verb.texts | verb.truths) - IGNORED for name, verb in VERBS.items()}
    text = (TREE / "docs/oci.md").read_text()
    assert [word for word in (*UNSUPPORTED_VERBS, *IGNORED) if f"`{word}`" not in text] == []
    assert REFUSED.isdisjoint(name for flags in told.values() for name in flags)


def list_commands(parser: argparse.ArgumentParser) -> set[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return set().union(*(list_commands(inner) for inner in action.choices.values()))
    return {parser.prog}


def test_every_make_target_of_the_documents_is_one() -> None:
    makefile = (TREE / "Makefile").read_text()
    for document in list_documents():
        for words in re.findall(r"`make ([a-z][a-z-]*)[^`]*`", document.read_text()):
            assert words in TARGET.findall(makefile), f"{document.name}: make {words}"


def test_every_table_of_figures_has_its_ground_and_its_day() -> None:
    text = (TREE / "docs/performance.md").read_text()
    for section in text.split("\n## ")[1:]:
        tables = len(re.findall(r"^\|---", section, re.M))
        assert tables <= 1, f"{section.splitlines()[0]}: one table, one run"
        if tables:
            stated = GROUND.findall(section.partition("\n|")[0])
            assert len(stated) == 1, section.splitlines()[0]


def test_every_figure_of_the_readme_has_its_ground_and_its_day() -> None:
    for row in read_table(TREE / "README.md", "## Figures"):
        assert re.fullmatch(r"(emulated|hardware speed|count), \d{4}-\d{2}-\d{2}", row[-1]), row


@pytest.mark.parametrize("source", pictures.list_pictures(), ids=lambda path: path.stem)
def test_a_picture_is_what_its_data_says(source: Path) -> None:
    assert source.with_suffix(".svg").read_text() == pictures.render(source), "make pictures"
