"""A guest's last output is reported in one line; a panic's message is not lost to its stack
trace."""

from shim.machine.console import summarize_console


def test_the_last_lines_are_kept() -> None:
    text = "\n".join(str(number) for number in range(20)).encode()
    assert summarize_console(text) == "12 | 13 | 14 | 15 | 16 | 17 | 18 | 19"


def test_a_panic_is_told_from_its_line_on() -> None:
    text = b"before\n" * 20 + b"Kernel panic - not syncing: no init\n" + b"a stack's line\n" * 40
    assert summarize_console(text).startswith("Kernel panic - not syncing: no init | a stack's")


def test_control_characters_of_the_guest_go_nowhere() -> None:
    assert summarize_console(b"\x1b[2Jred\x07\n\n") == "[2Jred"


def test_silence_is_empty() -> None:
    assert summarize_console(b"") == ""


def test_a_guest_that_prints_one_endless_line_is_cut_short() -> None:
    assert len(summarize_console(b"x" * 16384 + b"\n" + b"y" * 16384)) < 500
