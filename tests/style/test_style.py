"""The rules of the tree that no linter knows."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 500
MAX_C_TEST_LINES = 800  # one device's driver-side tests stay in one file
MAX_FUNCTION_LINES = 80
MAX_CHANGE_CHARACTERS = 130
MAX_C_TEST_FUNCTION_LINES = 100  # a fuzzer's table of bodies, one case an opcode
# With a slash docker's registry; without one the name of Debian's package.
REGISTRY_HOST = re.compile(
    r"(?:[a-z0-9-]+\.)*(?:debian\.org/debian|pypi\.org|pythonhosted\.org|docker\.io/|quay\.io"
    r"|ghcr\.io|gcr\.io|registry\.k8s\.io|proxy\.golang\.org|crates\.io)"
)
MADE_DIRS = {"build", "dist", "__pycache__"}
UNPLAIN = (
    "one for a world",
    "made good by the next look",
    "inhabitant of the",
    "never asked anything",
    "on its way is not lost",
    "ctime does not tell",
    "is no submount of its share",
    "go on from a saved machine",
    "is led to the host",
    "leaves to the vmm",
)
"""Phrases that readers did not understand, in lower case; documents have the field's words."""
TODO = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))")


def list_tree() -> list[Path]:
    """What is or would be committed; every file where git is not there to ask."""
    listed = subprocess.run(
        ["git", "-C", TREE, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else []
    paths = [TREE / name for name in names if name]
    if not paths:
        paths = [path for path in TREE.rglob("*") if not is_made(path.relative_to(TREE))]
    return [path for path in paths if path.is_file() and path != Path(__file__)]


def is_made(relative: Path) -> bool:
    return any(part.startswith(".") or part in MADE_DIRS for part in relative.parts)


FILES = list_tree()
OURS = [path for path in FILES if "gen" not in path.relative_to(TREE).parts[:2]]
PYTHON = [path for path in OURS if path.suffix == ".py"]
DOCUMENTS = [path for path in OURS if path.suffix == ".md"]
C = [path for path in OURS if path.suffix in {".c", ".h"}]


def name_of(path: Path) -> str:
    return str(path.relative_to(TREE))


def is_c_test(path: Path) -> bool:
    return path.is_relative_to(TREE / "tests/native")


def test_a_change_is_one_line_of_the_changelog() -> None:
    """Which versions there are: tests/unit/test_version.py."""
    lines = (TREE / "CHANGELOG.md").read_text().splitlines()
    body = lines[next(n for n, line in enumerate(lines) if line.startswith("## ")) :]
    wrong = [line for line in body if line and not line.startswith(("- ", "## ", "### "))]
    wrong += [line for line in body if len(line) > MAX_CHANGE_CHARACTERS]
    assert wrong == []


def test_no_source_file_is_longer_than_500_lines() -> None:
    long = {
        name_of(path): count
        for path in PYTHON + C
        if (count := len(path.read_text().splitlines()))
        > (MAX_C_TEST_LINES if is_c_test(path) else MAX_FILE_LINES)
    }
    assert long == {}


def python_functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def c_functions(text: str) -> list[tuple[str, int]]:
    """By kernel style: a body opens with '{' in the first column and so closes."""
    found, opened, heading = [], None, ""
    for number, line in enumerate(text.splitlines()):
        if line == "{":
            opened = number
        elif line == "}" and opened is not None:
            found.append((heading, number - opened + 1))
            opened = None
        elif opened is None and line and not line[0].isspace():
            heading = line
    return found


def test_no_function_is_longer_than_80_lines() -> None:
    functions = {path: python_functions(path) for path in PYTHON}
    functions |= {path: c_functions(path.read_text()) for path in C}
    long = [
        f"{name_of(path)}: {name} ({lines})"
        for path, found in functions.items()
        for name, lines in found
        if lines > (MAX_C_TEST_FUNCTION_LINES if is_c_test(path) else MAX_FUNCTION_LINES)
    ]
    assert long == []


def test_c_function_lengths_are_counted_by_their_braces() -> None:
    text = "int f(void)\n{\n\treturn 0;\n}\n\nstruct s {\n\tint x;\n};\n"
    assert c_functions(text) == [("int f(void)", 3)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_documents_are_in_plain_words(path: Path) -> None:
    text = " ".join(path.read_text().lower().split())
    assert [phrase for phrase in UNPLAIN if phrase in text] == []


def test_every_todo_names_an_issue() -> None:
    nameless = [
        f"{name_of(path)}:{number}"
        for path in PYTHON + C
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if TODO.search(line)
    ]
    assert nameless == []


def test_the_tree_names_no_package_registry() -> None:
    """Where packages come from is the machine's configuration, never ours."""
    named = []
    for path in FILES:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        named += [f"{name_of(path)}: {match[0]}" for match in REGISTRY_HOST.finditer(text)]
    assert named == []


@pytest.mark.parametrize("path", C, ids=name_of)
def test_a_c_file_starts_with_its_licence(path: Path) -> None:
    assert "SPDX-License-Identifier: Apache-2.0" in path.read_text().splitlines()[0]


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_a_module_says_what_it_owns(path: Path) -> None:
    """Every module that has code has a docstring."""
    tree = ast.parse(path.read_text())
    assert not tree.body or ast.get_docstring(tree)
