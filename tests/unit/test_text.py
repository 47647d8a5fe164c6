"""Text from a vmm or a guest becomes one short line without control characters."""

import logging
import os

import pytest

from shim.log import ContainerdFormatter, FdHandler
from shim.text import MAX_TEXT, clean_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no such file", "no such file"),
        ("a\nb\r\nc\0d", "a b  c d"),
        ("\x1b[2Jred\x07", "[2Jred"),
        ("left\u202eright\u2028", "left right"),
        ("\ud800 half of a pair", "half of a pair"),
        ("Grüße", "Grüße"),
        ("", ""),
    ],
)
def test_only_printable_characters_go_on(text: str, expected: str) -> None:
    assert clean_text(text) == expected


def test_what_is_too_long_is_cut_and_shows_it() -> None:
    assert clean_text("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert clean_text("x" * (64 << 20)) == "x" * MAX_TEXT + "…"


def test_a_record_is_one_line_whatever_is_in_it() -> None:
    text = 'a"b\\c\nlevel=fatal\x1b[2J\r\ud800\u2028ü\t'
    reader, writer = os.pipe()
    handler = FdHandler(writer)
    handler.setFormatter(ContainerdFormatter())
    handler.emit(logging.LogRecord("n", logging.ERROR, "", 0, "%s", (text,), None))
    os.close(writer)
    with open(reader, "rb") as file:
        line = file.read().decode()
    said = r'msg="a\"b\\c\nlevel=fatal\x1b[2J\r\ud800\u2028ü\t"'
    assert line.endswith(f" level=error {said} component=n\n")
    assert line.rstrip("\n").isprintable()
