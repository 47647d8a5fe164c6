"""Imports: no circles, every module in a layer, and pure modules that open no file.

import-linter (pyproject.toml) checks the layers; this file checks what it cannot.
"""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import grimp
import pytest

TREE = Path(__file__).resolve().parents[2]
PACKAGES = ("shim", "agent", "native", "proto", "image")


@cache
def contracts() -> dict[str, dict[str, Any]]:
    document = tomllib.loads((TREE / "pyproject.toml").read_text())
    return {
        contract["name"]: contract for contract in document["tool"]["importlinter"]["contracts"]
    }


@cache
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGES[0], *PACKAGES[1:], cache_dir=None)


def find_circles() -> list[set[str]]:
    """Modules that import each other, directly or not, anywhere in the file."""
    reached = {module: graph().find_upstream_modules(module) for module in graph().modules}
    circles = [
        {module, *(other for other in others if module in reached[other])}
        for module, others in reached.items()
    ]
    return [circle for circle in circles if len(circle) > 1]


def test_no_modules_import_each_other() -> None:
    assert find_circles() == []


@pytest.mark.parametrize("name", ["The shim's layers", "The vmm's layers"])
def test_every_module_is_in_a_layer(name: str) -> None:
    contract = contracts()[name]
    words = {
        word.strip("()") for layer in contract["layers"] for word in re.split(r" [|:] ", layer)
    }
    optional = set(re.findall(r"\((\w+)\)", " ".join(contract["layers"])))
    (container,) = contract["containers"]
    children = {child.rpartition(".")[2] for child in graph().find_children(container)}
    assert words - optional <= children <= words


def list_pure() -> list[Path]:
    paths = []
    for module in contracts()["Pure modules do no I/O"]["source_modules"]:
        path = TREE / module.replace(".", "/")
        paths += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return paths


@pytest.mark.parametrize("path", list_pure(), ids=lambda path: str(path.relative_to(TREE)))
def test_a_pure_module_opens_nothing(path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"open", "input", "print", "exec", "eval", "__import__"})


@pytest.mark.parametrize("path", sorted((TREE / "shim/sandbox").glob("*.py")), ids=lambda p: p.name)
def test_the_core_names_no_front_end(path: Path) -> None:
    """Not in comments and messages either: another front end says other words."""
    assert re.findall(r"containerd|ttrpc|protobuf|FIFO|\bctr\b|\bcrictl\b", path.read_text()) == []
