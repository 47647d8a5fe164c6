"""Checks a parsed JSON value against a described shape.

Pure.  A shape gives the type of each field.  Fields that it does not name are not
checked, absent and null fields pass unless they are required; an item of a list is
never null.  The first value that does not fit is an InvalidArgument naming its path
and value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from shim.errors import InvalidArgument

SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Text:
    absolute: bool = False
    not_empty: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    pass


@dataclass(frozen=True, slots=True)
class Whole:
    low: int = -(1 << 63)
    high: int = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class ListOf:
    item: "Shape"
    min_items: int = 0


@dataclass(frozen=True, slots=True)
class MapOf:
    item: "Shape"


@dataclass(frozen=True, slots=True)
class Record:
    fields: Mapping[str, "Shape"]
    required: frozenset[str] = field(default_factory=frozenset)


Shape = Text | Flag | Whole | ListOf | MapOf | Record


def refuse(path: str, value: Any, reason: str) -> InvalidArgument:
    shown = repr(value)
    if len(shown) > SHOWN_CHARACTERS:
        shown = shown[:SHOWN_CHARACTERS] + "…"
    return InvalidArgument(f"{path}: {reason}, is {shown}")


def check_shape(value: Any, shape: Shape, path: str) -> None:
    if value is None:
        return
    match shape:
        case Text():
            check_text(value, shape, path)
        case Flag():
            if not isinstance(value, bool):
                raise refuse(path, value, "expected true or false")
        case Whole(low, high):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise refuse(path, value, f"expected a whole number from {low} to {high}")
        case ListOf():
            check_list(value, shape, path)
        case MapOf(item):
            if not isinstance(value, dict):
                raise refuse(path, value, "expected an object")
            for key, child in value.items():
                check_shape(child, item, f"{path}[{key!r}]")
        case Record():
            check_record(value, shape, path)


def check_text(value: Any, shape: Text, path: str) -> None:
    if not isinstance(value, str):
        raise refuse(path, value, "expected a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise refuse(path, value, "expected Unicode text") from error
    if "\0" in value:
        raise refuse(path, value, "expected a string without NUL")
    if shape.not_empty and not value:
        raise refuse(path, value, "expected a string that is not empty")
    if shape.absolute and not value.startswith("/"):
        raise refuse(path, value, "expected an absolute path")


def check_list(value: Any, shape: ListOf, path: str) -> None:
    if not isinstance(value, list):
        raise refuse(path, value, "expected a list")
    if len(value) < shape.min_items:
        raise refuse(path, value, f"expected at least {shape.min_items} item")
    for index, child in enumerate(value):
        if child is None:
            raise refuse(f"{path}[{index}]", child, "expected an item")
        check_shape(child, shape.item, f"{path}[{index}]")


def check_record(value: Any, shape: Record, path: str) -> None:
    if not isinstance(value, dict):
        raise refuse(path, value, "expected an object")
    prefix = f"{path}." if path else ""
    for name in sorted(shape.required):
        if value.get(name) is None:
            raise InvalidArgument(f"{prefix}{name}: is required and missing")
    for name, child_shape in shape.fields.items():
        check_shape(value.get(name), child_shape, f"{prefix}{name}")
